"""A conversation has one writer on all gateways of a database, and none that outlives its process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from tests.conftest import run_sql
from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

TURNS = 10
SECONDS = 60.0


@pytest.fixture
async def gateways(
    tmp_path: Path, empty_postgresql_url: str, upstream: FakeUpstream
) -> AsyncIterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two processes on one database and one upstream."""
    told = {"DATABASE_URL": empty_postgresql_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-one"}
    processes = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            processes.append(ForkedGateway(tmp_path / name, told))
            await asyncio.to_thread(processes[-1].start)
        yield processes[0], processes[1]
    finally:
        for process in processes:
            process.kill()


async def say(client: AsyncOpenAI, text: str, conversation_id: str) -> Any:
    """The response to this, once the conversation is free."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await client.responses.create(model="demo", input=text, conversation=conversation_id)
            except BadRequestError as error:
                if error.code != "conversation_locked":
                    raise
                await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_two_gateways_write_to_one_conversation_in_turn(
    gateways: tuple[GatewayProcess, GatewayProcess], upstream: FakeUpstream, empty_postgresql_url: str
) -> None:
    one, _ = gateways
    async with AsyncExitStack() as stack:
        here, there = [
            await stack.enter_async_context(AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=one.key, max_retries=0))
            for gateway in gateways
        ]
        conversation = await here.conversations.create()
        await asyncio.gather(
            *(say((here, there)[number % 2], f"Turn {number}.", conversation.id) for number in range(2 * TURNS))
        )
        listed = [one async for one in there.conversations.items.list(conversation.id, order="asc", limit=100)]
        assert [getattr(item, "role", "") for item in listed] == ["user", "assistant"] * 2 * TURNS
        # Each turn heard all that was said before it; a first input goes as it is, as text.
        heard: list[Any] = [request.json["input"] for request in upstream.requests]
        assert sorted(0 if isinstance(given, str) else len(given) for given in heard) == [
            2 * turn + 1 if turn else 0 for turn in range(2 * TURNS)
        ]

        upstream.enqueue(Reply.stall())
        dying = asyncio.create_task(say(here, "Never answered.", conversation.id))
        await upstream.request(2 * TURNS)
        with pytest.raises(BadRequestError, match="Another process is currently operating on this conversation"):
            await there.responses.create(model="demo", input="Locked.", conversation=conversation.id)
        one.kill()
        await asyncio.gather(dying, return_exceptions=True)
        with pytest.raises(BadRequestError, match="Another process is currently operating on this conversation"):
            await there.responses.create(model="demo", input="Locked.", conversation=conversation.id)
        # As if the lease had run out.
        run_sql(empty_postgresql_url, "UPDATE conversations SET held_until = held_until - 60")
        await there.responses.create(model="demo", input="Free.", conversation=conversation.id)
        listed = [one async for one in there.conversations.items.list(conversation.id, order="asc", limit=100)]
        assert len(listed) == 2 * (2 * TURNS + 1)
