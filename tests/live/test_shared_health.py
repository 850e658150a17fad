"""Two replicas and one set of keys: what upstream told one of them both obey, and dead keys are not asked twice."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import orjson
import pytest

from app.upstream.account import account_name
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_http import RawClient
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

GOOD, LIMITED, DEAD = "sk-canary-good", "sk-canary-limited", "sk-canary-dead"
SECONDS = 60.0
_REST = 4.0


class Keys:
    """An upstream's opinion of each key, and when each was asked."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.asked: list[tuple[str, float]] = []
        self.limited_until = 0.0
        self.dead = {DEAD}
        upstream.respond = self._respond

    def count(self, key: str) -> int:
        return Counter(asked for asked, _ in self.asked)[key]

    def _respond(self, request: Recorded) -> Reply | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append((key, time.monotonic()))
        if key in self.dead:
            return Reply.error(401, "invalid_api_key")
        if key == LIMITED and not self.limited_until:
            self.limited_until = time.monotonic() + _REST
            return Reply.error(429, "rate_limit_exceeded", {"retry-after": str(int(_REST))})
        return None


@pytest.fixture
def keys(upstream: FakeUpstream) -> Keys:
    return Keys(upstream)


@pytest.fixture
async def replicas(
    postgresql_url: str, upstream: FakeUpstream, keys: Keys
) -> AsyncIterator[tuple[LiveGateway, LiveGateway]]:
    settings = [upstream_settings(upstream.url, GOOD, LIMITED, DEAD)]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_gateway(postgresql_url, settings))
        second = await stack.enter_async_context(running_gateway(postgresql_url, settings, keys_of=first))
        yield first, second


async def create(gateway: LiveGateway, number: int = 0) -> int:
    body = orjson.dumps({"model": "demo", "input": f"Hello {number}."})
    async with RawClient.to(gateway.url) as client:
        return (await client.ask("POST", "/v1/responses", gateway.headers(), body)).status


def states(gateway: LiveGateway) -> dict[str, str]:
    """What the gateway thinks of each key."""
    by_name = {account_name("fake", key): key for key in (GOOD, LIMITED, DEAD)}
    return {by_name[state.name]: state.state for state in gateway.app.state.services.upstreams._pool.report()}


async def until_known(gateway: LiveGateway, state: dict[str, str]) -> None:
    async with asyncio.timeout(SECONDS):
        while not state.items() <= states(gateway).items():
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_what_one_replica_was_told_both_obey(replicas: tuple[LiveGateway, LiveGateway], keys: Keys) -> None:
    here, there = replicas
    async with asyncio.timeout(SECONDS):
        while not keys.limited_until or not keys.count(DEAD):
            assert await create(here) == 200
    told = time.monotonic()
    await until_known(there, {LIMITED: "cooling", DEAD: "dead"})
    assert time.monotonic() - told < 10
    dead, limited = keys.count(DEAD), keys.count(LIMITED)
    while time.monotonic() < keys.limited_until:
        for gateway in replicas:
            assert await create(gateway) == 200
    assert keys.count(DEAD) == dead == 1
    early = [key for key, at in keys.asked if key == LIMITED and at < keys.limited_until]
    assert len(early) == limited == 1
    # Both use it again, once its time has passed.
    async with asyncio.timeout(SECONDS):
        while keys.count(LIMITED) == limited:
            for gateway in replicas:
                assert await create(gateway) == 200


async def test_a_restart_forgets_nothing(postgresql_url: str, upstream: FakeUpstream, keys: Keys) -> None:
    settings = [upstream_settings(upstream.url, GOOD, DEAD)]
    async with running_gateway(postgresql_url, settings) as first:
        async with asyncio.timeout(SECONDS):
            while not keys.count(DEAD):
                assert await create(first) == 200
        async with running_gateway(postgresql_url, settings, keys_of=first) as second:
            async with asyncio.timeout(SECONDS):
                while states(second).get(DEAD) != "dead":
                    await asyncio.sleep(0.02)
    async with running_gateway(postgresql_url, settings, keys_of=first) as third:
        assert states(third)[DEAD] == "dead"
        for number in range(20):
            assert await create(third, number) == 200
    assert keys.count(DEAD) == 1
