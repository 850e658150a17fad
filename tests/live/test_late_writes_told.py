"""What clients were told while the database stood still: a 503 left nothing behind, so that its repeat is no second."""

import asyncio

import pytest

from tests.fakes.background import BackgroundClient
from tests.fakes.commits import held_commits
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

_ITEM = {"type": "message", "role": "user", "content": "pay 100 euros"}


async def test_what_was_refused_while_the_database_stood_still_is_not_done_later(
    gateway_with: GatewayWith, sqlite_url: str, upstream: FakeUpstream
) -> None:
    async with (
        gateway_with(storage={"commit_timeout_seconds": 3}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as background,
        gateway.client() as client,
    ):
        filled = (await client.conversations.create()).id
        held = (await client.conversations.create()).id
        patient = client.with_options(max_retries=0)
        async with held_commits(sqlite_url):
            refused = await asyncio.gather(
                *[background.create(input="once", stream=is_streamed) for is_streamed in (False, True)],
                background.create(input="once", conversation=held),
                background.create(input="once", conversation=held, background=False),
                background.create(input="once", conversation=held, background=False, stream=True),
                patient.conversations.items.with_raw_response.create(filled, items=[_ITEM]),  # type: ignore[list-item]
                return_exceptions=True,
            )
        told = [getattr(answer, "status_code", None) for answer in refused]
        assert told == [503] * len(refused)
        await client.conversations.items.create(filled, items=[_ITEM])  # type: ignore[list-item]
        assert len((await client.conversations.items.list(filled)).data) == 1
        assert (await client.responses.create(model="demo", input="again", conversation=held)).output_text
        again = await background.order(input="again")
        assert (await background.ended(again))["status"] == "completed"
        # The orders that were refused would have been begun before this one.
        assert len(upstream.requests) == 2
