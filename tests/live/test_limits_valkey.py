"""Limits that two replicas count in Valkey: exact, freed by one that was killed, closed while the server is away."""

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
from tests.fakes.valkey import ValkeyServer

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

PASSWORD = "pa55word-0123456789"
LEASE_SECONDS = 25.0
GRACE_SECONDS = 15.0


@pytest.mark.slow
async def test_two_replicas_hold_limits_together_and_serve_nobody_who_has_any_while_the_server_is_away(
    tmp_path: Path, postgresql_url: str, upstream: FakeUpstream
) -> None:
    valkey = ValkeyServer(PASSWORD).start()
    limits = {"ANTIPHON_LIMITS_URL": valkey.url}
    try:
        with (
            gateway_process(tmp_path / "first", postgresql_url, upstream, **limits) as first,
            gateway_process(tmp_path / "second", postgresql_url, upstream, **limits) as second,
        ):
            busy, streaming, spending, free = await limited_keys(
                postgresql_url,
                Limits(requests_per_minute=10),
                Limits(concurrent_streams=1),
                Limits(requests_per_minute=10, budgets=(Budget("day", tokens=1_000_000),)),
                Limits(),
                project=Limits(),
            )
            answers = await asyncio.gather(*(post(gateway, busy) for _ in range(40) for gateway in (first, second)))
            assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 70}
            assert len(upstream.requests) == 10
            assert (await post(first, spending)).headers["x-ratelimit-remaining-requests"] == "9"

            valkey.hang()
            began = time.monotonic()
            closed = await asyncio.gather(*(post(gateway, spending) for _ in range(10) for gateway in (first, second)))
            assert time.monotonic() - began < 15
            assert {(each.status_code, each.json()["error"]["code"]) for each in closed} == {
                (503, "storage_unavailable")
            }
            valkey.kill()
            assert (await post(first, spending)).status_code == 503
            assert (await post(first, free)).status_code == 200
            valkey.start()
            assert [(await post(gateway, spending)).status_code for gateway in (first, second)] == [200, 200]

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
            second.stop()
            for gateway in (first, second):
                assert PASSWORD not in gateway.log.read_text() + gateway.banner.read_text()
    finally:
        valkey.close()
