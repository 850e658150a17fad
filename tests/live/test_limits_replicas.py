"""Limits over processes: exact on two replicas, freed by one that was killed, and budgets that outlive a restart."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from app.state.policies import Budget, Limits
from tests.fakes.limited import limited_keys
from tests.fakes.raw_client import calling
from tests.fakes.replicas import gateway_process, post
from tests.fakes.replies import Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

# How long a process that was killed still counts, at most.
LEASE_SECONDS = 30.0
GRACE_SECONDS = 10.0


@pytest.mark.slow
async def test_two_replicas_hold_a_limit_together_and_free_the_streams_of_one_that_was_killed(
    tmp_path: Path, postgresql_url: str, upstream: FakeUpstream
) -> None:
    with (
        gateway_process(tmp_path / "first", postgresql_url, upstream) as first,
        gateway_process(tmp_path / "second", postgresql_url, upstream) as second,
    ):
        busy, streaming = await limited_keys(
            postgresql_url, Limits(requests_per_minute=10), Limits(concurrent_streams=1), project=Limits()
        )
        answers = await asyncio.gather(*(post(gateway, busy) for _ in range(100) for gateway in (first, second)))
        assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 190}
        assert len(upstream.requests) == 10

        go = asyncio.Event()
        frames = story("resp_1")
        upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
        async with calling(first.url, streaming, input="Hello!") as call:
            await call.until(b"Once upon ")
            assert (await post(second, streaming, stream=True)).status_code == 429
            first.kill()
        deadline = time.monotonic() + LEASE_SECONDS + GRACE_SECONDS
        while (await post(second, streaming, stream=True)).status_code == 429:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)


@pytest.mark.slow
async def test_a_budget_outlives_a_process_that_was_killed(
    tmp_path: Path, database_url: str, upstream: FakeUpstream
) -> None:
    usage = {"input_tokens": 30, "output_tokens": 70, "total_tokens": 100}
    answer = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "demo",
        "output": [],
        "usage": usage,
    }
    upstream.respond = lambda _: Reply.json(200, {**answer, "created_at": 1})
    with gateway_process(tmp_path / "one", database_url, upstream) as gateway:
        [key] = await limited_keys(database_url, Limits(budgets=(Budget("month", tokens=150),)))
        assert [(await post(gateway, key)).status_code for _ in range(2)] == [200, 200]
        assert (await post(gateway, key)).status_code == 429
        gateway.kill()
        gateway.start()
        refused = await post(gateway, key)
        assert refused.status_code == 429
        assert "Limit 150 tokens, Used 200 tokens" in refused.json()["error"]["message"]
