"""Three keys behind one upstream, of which one is refused, one is limited and one works; and what it costs to fail."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from app.settings.upstreams import KeySettings, UpstreamSettings
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

REFUSED, LIMITED, GOOD = "sk-refused", "sk-limited", "sk-good"
CALLS = 400


class Keys:
    """An upstream's opinion of each key; whoever is not named is served. `asked` counts the calls of each."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.bad: dict[str, Reply] = {}
        self.asked: Counter[str] = Counter()
        upstream.respond = self._respond

    def _respond(self, request: Recorded) -> Reply | None:
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.asked[key] += 1
        return self.bad.get(key)


@pytest.fixture
def keys(upstream: FakeUpstream) -> Keys:
    return Keys(upstream)


@pytest.fixture
async def pooled(sqlite_url: str, upstream: FakeUpstream, keys: Keys) -> AsyncIterator[LiveGateway]:
    settings = upstream_settings(upstream.url, REFUSED, LIMITED, GOOD)
    async with running_gateway(sqlite_url, [settings], relay={"pool_wait_seconds": 0}) as gateway:
        yield gateway


async def load(gateway: LiveGateway, calls: int, workers: int = 8, **members: Any) -> list[Answer]:
    """So many calls, some of them at once."""
    body = orjson.dumps({"model": "demo", "input": "Hello.", "store": False, **members})
    left = iter(range(calls))
    answers: list[Answer] = []

    async def work() -> None:
        async with RawClient.to(gateway.url) as client:
            answers.extend([await client.ask("POST", "/v1/responses", gateway.headers(), body) for _ in left])

    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(workers)))
    return answers


async def test_one_good_key_of_three_serves_everybody(pooled: LiveGateway, keys: Keys) -> None:
    keys.bad = {
        REFUSED: Reply.error(401, "invalid_api_key"),
        LIMITED: Reply.error(429, "rate_limit_exceeded", {"retry-after": "15"}),
    }
    (first,) = await load(pooled, 1)
    assert first.status == 200
    # Calls that were on their way when it was found out are not held against a key; there are none yet.
    answers = await load(pooled, CALLS)
    assert [answer.status for answer in answers] == [200] * CALLS
    assert keys.asked[GOOD] == CALLS + 1
    assert keys.asked[REFUSED] <= 8
    assert keys.asked[LIMITED] <= 8
    known = Counter(keys.asked)
    await load(pooled, 50)
    assert keys.asked - known == {GOOD: 50}


async def test_when_the_last_good_key_goes_the_truth_is_told_and_when_one_is_back_all_is_well(
    pooled: LiveGateway, keys: Keys
) -> None:
    keys.bad = {
        REFUSED: Reply.error(401, "invalid_api_key"),
        LIMITED: Reply.error(429, "rate_limit_exceeded", {"retry-after": "2"}),
        GOOD: Reply.error(403, "account_deactivated"),
    }
    answers = await load(pooled, 20, workers=1)
    for answer in answers:
        assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert keys.asked == {REFUSED: 1, LIMITED: 1, GOOD: 1}
    keys.bad.pop(LIMITED)
    await asyncio.sleep(int(answers[-1].headers["retry-after-ms"]) / 1000)
    assert (await load(pooled, 1))[0].status == 200
    keys.bad = dict.fromkeys((REFUSED, LIMITED, GOOD), Reply.error(401, "invalid_api_key"))
    answers = await load(pooled, 10, workers=1)
    for answer in answers:
        assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_authentication_error")
        assert 1 <= int(answer.headers["retry-after"]) <= 33
        assert answer.headers["x-should-retry"] == "false"
    assert keys.asked == {REFUSED: 1, LIMITED: 3, GOOD: 1}


async def test_an_outage_of_all_keys_is_not_multiplied_and_passes(pooled: LiveGateway, keys: Keys) -> None:
    keys.bad = dict.fromkeys((REFUSED, LIMITED, GOOD), Reply.error(503, "server_is_overloaded"))
    answers = await load(pooled, CALLS)
    assert {answer.status for answer in answers} == {503}
    assert keys.asked.total() <= 1.2 * CALLS
    keys.bad = {}
    answers = await load(pooled, 50)
    assert {answer.status for answer in answers} == {200}


async def test_a_call_waits_its_turn_for_a_busy_key(sqlite_url: str, upstream: FakeUpstream, keys: Keys) -> None:
    settings = UpstreamSettings(
        name="fake", base_url=upstream.url, keys=(KeySettings(secret=SecretStr(GOOD), concurrency=1),)
    )
    async with running_gateway(sqlite_url, [settings]) as gateway:
        answers = await load(gateway, 40, stream=True)
    assert {answer.status for answer in answers} == {200}
    assert all(b"response.completed" in answer.body for answer in answers)


async def test_an_alias_is_upstreams_name_of_a_model_and_nobody_elses(
    sqlite_url: str, upstream: FakeUpstream, keys: Keys
) -> None:
    settings = upstream_settings(upstream.url, GOOD, models=("our-*",), aliases={"our-model": "demo"})
    async with running_gateway(sqlite_url, [settings]) as gateway:
        (answer,) = await load(gateway, 1, model="our-model")
        (refused,) = await load(gateway, 1, model="demo")
    assert answer.status == 200
    assert upstream.requests[0].json["model"] == "demo"
    # The answer is upstream's, to the letter.
    assert answer.json["model"] == "demo"
    assert refused.json["error"]["code"] == "model_not_found"


async def test_a_key_is_sent_with_its_organization_and_project(sqlite_url: str, upstream: FakeUpstream) -> None:
    key = KeySettings(secret=SecretStr(GOOD), organization="org-1", project="proj-1")
    settings = UpstreamSettings(name="fake", base_url=upstream.url, keys=(key,))
    async with running_gateway(sqlite_url, [settings]) as gateway:
        await load(gateway, 1)
    sent = upstream.requests[0].headers
    assert (sent["openai-organization"], sent["openai-project"]) == ("org-1", "proj-1")
