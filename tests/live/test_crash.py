"""Nothing that a client has been told is lost when the process is killed."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from sqlalchemy import make_url

from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess
from tests.fakes.raw_client import calling
from tests.fakes.streams import events
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

_STREAMS = 4


async def told(process: GatewayProcess, city: str) -> dict[str, Any] | None:
    """The completed response as the client of one stream read it, or None. The first to read one kills the gateway."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        async with calling(process.url, process.key, input=f"My city is {city}.") as call:
            while await call.chunk():
                if b"event: response.completed\n" in call.received and call.received.endswith(b"\n\n"):
                    process.kill()
                    response: dict[str, Any] = events(call.received)[-1]["response"]
                    return response
    return None


async def check_kept(client: AsyncOpenAI, city: str, response: dict[str, Any]) -> None:
    kept = await client.responses.retrieve(response["id"])
    assert kept.status == "completed"
    assert [item.model_dump(exclude_unset=True) for item in kept.output] == response["output"]
    chained = await client.responses.create(model="demo", input="What is my city?", previous_response_id=kept.id)
    assert chained.output_text == f"Your city is {city}."


# Each round is a restart, which a busy machine makes slow.
@pytest.mark.timeout(900)
@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize(
    "rounds", [2, pytest.param(6, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.faults)]
)
async def test_what_was_announced_survives_kill_9(
    rounds: int, database_url: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-one"}
    process = ForkedGateway(tmp_path, environment)
    announced: dict[str, dict[str, Any]] = {}
    try:
        for number in range(rounds):
            process.start()
            cities = [f"Utrecht{number}x{stream}" for stream in range(_STREAMS)]
            responses = await asyncio.gather(*(told(process, city) for city in cities))
            heard = {city: response for city, response in zip(cities, responses, strict=True) if response}
            assert heard
            announced |= heard
        process.start()
        async with AsyncOpenAI(base_url=f"{process.url}/v1", api_key=process.key, max_retries=0) as client:
            for city, response in announced.items():
                await check_kept(client, city, response)
    finally:
        process.kill()
    assert len(announced) >= rounds
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(database_url).database))) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
