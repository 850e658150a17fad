"""The ledger adds up to what is stored: after calls of every kind, a crash, and a stop."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from app.storage.tables import responses
from app.storage.usage.tables import usage, usage_hours
from tests.fakes.background import BackgroundClient
from tests.fakes.databases import sqlite_first
from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows, used
from tests.fakes.raw_client import calling
from tests.fakes.replicas import gateway_process
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

CALL: Any = {"model": "demo", "input": "Hi."}


# A stored response says what upstream told. What its client left before that is in the ledger by estimate.
TOLD = ~usage.c.is_estimated


async def until_alike(database_url: str) -> None:
    """The ledger comes to have what stored responses used, and its sums all that it has."""

    async def sums(table: Any, *conditions: Any) -> tuple[int, ...]:
        return await asyncio.to_thread(used, database_url, table, *conditions)

    async with asyncio.timeout(60):
        while await sums(usage, TOLD) != await sums(responses) or await sums(usage) != await sums(usage_hours):
            await asyncio.sleep(0.1)
    assert await sums(responses) != (0, 0, 0, 0)


async def mixed(base_url: str, key: str, count: int) -> None:
    """Calls of every kind, each stored."""
    async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:

        async def call(number: int) -> None:
            given: Any = {"model": "demo", "input": f"Count to {number}.", "stream": number % 2 == 0}
            given |= {"background": number % 3 == 0}
            if number % 8 == 0:
                async with calling(base_url, key, **given) as leaving:
                    await leaving.chunk()
                return
            answer = await client.responses.create(**given)
            if given["stream"]:
                async for _ in answer:
                    pass

        await asyncio.gather(*[call(number) for number in range(count)])


async def test_the_ledger_has_what_is_stored(gateway: LiveGateway) -> None:
    await mixed(gateway.base_url, gateway.key, 48)
    await until_alike(gateway.settings.storage.url)
    entries = await asyncio.to_thread(rows, gateway.settings.storage.url, usage)
    assert len(entries) == 48


# The sweep takes what is half a minute old, and looks each minute.
@pytest.mark.slow
@pytest.mark.timeout(240)
@sqlite_first
async def test_what_a_crash_left_out_is_found_again(database_url: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-one"}
    process = ForkedGateway(tmp_path, environment).start()
    try:
        await mixed(f"{process.url}/v1", process.key, 12)
        async with AsyncOpenAI(base_url=f"{process.url}/v1", api_key=process.key, max_retries=0) as client:
            await client.responses.create(**CALL)
        process.kill()
        kept = await asyncio.to_thread(used, database_url, usage, TOLD)
        assert kept != await asyncio.to_thread(used, database_url, responses), "the last of them had not been written"
        process.start()
        await until_alike(database_url)
    finally:
        process.kill()


# A lease has to end first.
@pytest.mark.timeout(240)
@pytest.mark.slow
async def test_a_run_that_moves_to_another_replica_is_one_entry_and_a_stream_that_is_killed_none(
    empty_postgresql_url: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    url = empty_postgresql_url
    with (
        gateway_process(tmp_path / "one", url, upstream) as one,
        gateway_process(tmp_path / "two", url, upstream) as two,
    ):
        upstream.respond = lambda _: Reply.sse(story("resp_up")[:3], then=Act.STALL)
        async with BackgroundClient.to(one.url, one.key) as here, BackgroundClient.to(two.url, one.key) as there:
            runs = [await here.order(), await here.order(stream=True)]
            for run in runs:
                await there.status(run, "in_progress")
            async with calling(one.url, one.key, input="Hi.") as call:
                await call.until(b"response.created")
                one.kill()
            for run in runs:
                await there.ended(run, 60)
            upstream.respond = None
            last = await there.order()
            await there.ended(last)
        async with asyncio.timeout(20):
            while len(found := await asyncio.to_thread(rows, url, usage)) < len([*runs, last]):
                await asyncio.sleep(0.05)
    assert sorted(row["response_id"] for row in found) == sorted([*runs, last])
    told = {row["response_id"]: (row["response_status"], row["is_background"], row["attempts"]) for row in found}
    assert told == {**dict.fromkeys(runs, ("failed", True, 1)), last: ("completed", True, 1)}


async def test_a_stop_loses_no_entry(sqlite_url: str, upstream: FakeUpstream) -> None:
    keys = [upstream_settings(upstream.url, "sk-one")]
    async with running_gateway(sqlite_url, keys) as gateway, gateway.client() as client:
        for _ in range(5):
            await client.responses.create(**CALL, store=False)
    assert len(await asyncio.to_thread(rows, sqlite_url, usage)) == 5
