"""Three keys behind one upstream, two gateways on one database: what the keys can still do, every client gets."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

DEAD, LIMITED, GOOD = KEYS = ("sk-upstream-dead", "sk-upstream-limited", "sk-upstream-good")
SENDERS = 8
REST_SECONDS = 15
# Until one gateway knows what the other has found.
SHARED_SECONDS = 2.0


class Upstream:
    """What the keys are told now, and when each was used for which call."""

    def __init__(self, fake: FakeUpstream) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[float, str, str]] = []
        self.url = fake.url
        fake.respond = self._respond

    def _respond(self, request: Recorded) -> Reply | None:
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.asked.append((time.monotonic(), key, request.headers.get("x-client-request-id", "")))
        return self.replies.get(key)

    def times(self, key: str, since: float = 0.0) -> list[float]:
        return [at for at, used, _ in self.asked if used == key and at >= since]


@pytest.fixture
def keys(upstream: FakeUpstream) -> Upstream:
    return Upstream(upstream)


@pytest.fixture
async def gateways(tmp_path: Path, empty_postgresql_url: str, keys: Upstream) -> AsyncIterator[list[GatewayProcess]]:
    """Two processes on one database, with the three keys."""
    told = {"DATABASE_URL": empty_postgresql_url, "OPENAI_BASE_URL": keys.url, "OPENAI_API_KEY": ",".join(KEYS)}
    processes: list[GatewayProcess] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            processes.append(ForkedGateway(tmp_path / name, told))
            await asyncio.to_thread(processes[-1].start)
        yield processes
    finally:
        for process in processes:
            process.kill()


async def create(client: RawClient, key: str, name: str = "", **members: Any) -> Answer:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "x-client-request-id": name}
    body = orjson.dumps({"model": "demo", "input": "Hi", "store": False, **members})
    return await client.ask("POST", "/v1/responses", headers, body)


async def send(gateways: list[GatewayProcess], calls: int) -> list[int]:
    """The statuses of so many calls, spread over the gateways."""
    key = gateways[0].key
    names = iter(range(calls))
    statuses = []

    async def sender(gateway: GatewayProcess) -> None:
        async with RawClient.to(gateway.url) as client:
            statuses.extend([(await create(client, key, f"call-{name}")).status for name in names])

    await asyncio.gather(*(sender(gateway) for gateway in gateways for _ in range(SENDERS)))
    return statuses


@pytest.mark.slow
async def test_one_good_key_serves_two_thousand_calls_on_two_gateways(
    gateways: list[GatewayProcess], keys: Upstream
) -> None:
    keys.replies = {
        DEAD: Reply.error(401, "invalid_api_key"),
        LIMITED: Reply.error(429, "rate_limit_exceeded", headers={"retry-after": str(REST_SECONDS)}),
    }
    statuses = await send(gateways, 2000)
    assert Counter(statuses)[200] >= 1998
    attempts = Counter(name for _, _, name in keys.asked)
    # The first calls may meet both bad keys, before either has answered anybody.
    assert sum(1 for count in attempts.values() if count > 2) <= 2
    assert max(attempts.values()) <= 3
    # Both gateways may have met each bad key before one of them told the other; calls were under way then.
    first = keys.times(LIMITED)[0]
    assert not [at for at in keys.times(LIMITED) if first + SHARED_SECONDS < at < first + REST_SECONDS]
    assert len(keys.times(LIMITED)) <= 2 * SENDERS
    found = keys.times(DEAD)[0]
    assert not [at for at in keys.times(DEAD) if found + SHARED_SECONDS < at < found + REST_SECONDS]
    # The key that rested comes back by itself.
    del keys.replies[LIMITED]
    async with asyncio.timeout(REST_SECONDS + 20):
        while not keys.times(LIMITED, first + REST_SECONDS):
            await send(gateways, 20)
            await asyncio.sleep(0.5)
    assert not [at for at in keys.times(LIMITED) if first + SHARED_SECONDS < at < first + REST_SECONDS]


@pytest.mark.slow
async def test_without_a_good_key_clients_are_told_when_there_will_be_one(
    gateways: list[GatewayProcess], keys: Upstream
) -> None:
    keys.replies = {
        DEAD: Reply.error(401, "invalid_api_key"),
        LIMITED: Reply.error(429, "rate_limit_exceeded", headers={"retry-after": "30"}),
        GOOD: Reply.error(401, "invalid_api_key"),
    }
    async with RawClient.to(gateways[0].url) as client:
        async with asyncio.timeout(30):
            while (answer := await create(client, gateways[0].key)).status == 200:
                pass
        asked = len(keys.asked)
        answer = await create(client, gateways[0].key)
        assert answer.status in {429, 502}
        assert 0 < int(answer.headers["retry-after"]) <= 30
        assert orjson.loads(answer.body)["error"]["code"] in {"rate_limit_exceeded", "upstream_authentication_error"}
        assert len(keys.asked) == asked


@pytest.mark.slow
async def test_an_outage_of_the_whole_upstream_is_not_multiplied(
    gateways: list[GatewayProcess], keys: Upstream
) -> None:
    keys.replies = dict.fromkeys(KEYS, Reply.error(500))
    calls = 1000
    key = gateways[0].key
    async with RawClient.to(gateways[0].url) as one, RawClient.to(gateways[1].url) as two:
        started = time.monotonic()
        for number in range(calls // 2):
            answers = await asyncio.gather(create(one, key), create(two, key))
            assert {answer.status for answer in answers} <= {500, 502, 503}
            await asyncio.sleep(max(0.0, started + number / 100 - time.monotonic()))
    # Each of both may retry a fifth of its calls of any ten seconds, rounded up.
    rounded = 2 * (1 + (time.monotonic() - started) // 10)
    assert len(keys.asked) <= 1.2 * calls + rounded
    keys.replies = {}
    # The gateways find out by themselves, with the calls that they get.
    async with RawClient.to(gateways[0].url) as client, asyncio.timeout(60):
        while (await create(client, key)).status != 200:
            await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_after_the_first_forwarded_byte_no_key_is_tried_again(
    gateways: list[GatewayProcess], keys: Upstream
) -> None:
    keys.replies = dict.fromkeys(KEYS, Reply.sse(story("resp_of_a_broken_stream")[:3], then=Act.CLOSE))
    async with RawClient.to(gateways[0].url) as client:
        for number in range(20):
            answer = await create(client, gateways[0].key, f"stream-{number}", stream=True)
            assert b"response.failed" in answer.body
    assert Counter(name for _, _, name in keys.asked) == {f"stream-{number}": 1 for number in range(20)}
