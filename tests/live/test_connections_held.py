"""No database connection is held while bytes flow: more streams than connections, and a read beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.ids import new_id
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


@pytest.fixture
async def narrow(database_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """A gateway with one connection for reading."""
    upstreams = [upstream_settings(upstream.url, "sk-upstream-one")]
    async with running_gateway(database_url, upstreams, storage={"pool_size": 1}) as gateway:
        yield gateway


async def test_streams_in_flight_hold_no_connection(narrow: LiveGateway, upstream: FakeUpstream) -> None:
    async with narrow.client() as client, AsyncExitStack() as calls:
        first = await client.responses.create(model="demo", input="Hello!")
        for _ in range(3):
            begin, *_ = story(new_id("resp"))
            upstream.enqueue(Reply.sse([begin], then=Act.STALL))
            call = await calls.enter_async_context(calling(narrow.url, narrow.key, previous_response_id=first.id))
            await call.until(begin)
        database = narrow.database
        # Now and then the process looks at its runs.
        async with asyncio.timeout(20):
            while database._readers.busy or database._writer.busy or database._waiting_writer.busy:
                await asyncio.sleep(0.01)
        assert (await client.responses.retrieve(first.id)).id == first.id
