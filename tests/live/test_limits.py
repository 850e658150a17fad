"""What limits a key and its project: over real sockets, exact at once, told in full, given back at the end."""

import asyncio
import re
from collections import Counter
from typing import Any

import httpx2
import pytest

from app.state.policies import Budget, Limits
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.limited import limited_keys
from tests.fakes.raw_client import calling
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECONDS = 60.0
USAGE = {"input_tokens": 30, "output_tokens": 70, "total_tokens": 100}


def whole(response_id: str = "resp_1") -> Reply:
    answer = {"id": response_id, "object": "response", "status": "completed", "model": "demo", "output": []}
    return Reply.json(200, {**answer, "created_at": 1, "usage": USAGE})


async def post(gateway: LiveGateway, key: str, path: str = "/responses", **body: object) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        return await client.post(
            f"{gateway.base_url}{path}", json={"model": "demo", "input": "Hello!", **body}, headers=gateway.headers(key)
        )


async def keys_of(gateway: LiveGateway, *limits: Limits, project: Limits | None = None) -> list[str]:
    secret = gateway.settings.storage.database_url
    assert secret is not None
    return await limited_keys(secret.get_secret_value(), *limits, project=project)


async def test_two_hundred_calls_at_once_meet_a_limit_exactly(gateway: LiveGateway) -> None:
    [key] = await keys_of(gateway, Limits(requests_per_minute=10))
    answers = await asyncio.gather(*(post(gateway, key, store=False) for _ in range(200)))
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 190}
    left = sorted(int(a.headers["x-ratelimit-remaining-requests"]) for a in answers if a.status_code == 200)
    assert left == list(range(10))
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["x-antiphon-error-source"] == "gateway"
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"(1m0|[\d.]+)(s|ms)", refused.headers["x-ratelimit-reset-requests"])


async def test_the_keys_of_a_project_share_its_limit(gateway: LiveGateway) -> None:
    keys = await keys_of(gateway, Limits(), Limits(requests_per_minute=4), project=Limits(requests_per_minute=6))
    answers = await asyncio.gather(*(post(gateway, key, store=False) for key in keys * 10))
    assert Counter(answer.status_code for answer in answers) == {200: 6, 429: 14}
    assert (await post(gateway, gateway.key)).status_code == 200


async def test_upstreams_own_limits_are_not_told_where_the_caller_has_some(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    [key] = await keys_of(gateway, Limits(requests_per_minute=10))
    theirs = {"x-ratelimit-limit-requests": "9999", "x-ratelimit-remaining-tokens": "5"}
    upstream.enqueue(Reply.error(400, "bad", theirs))
    answer = await post(gateway, key)
    assert answer.status_code == 400
    assert answer.headers["x-antiphon-error-source"] == "upstream"
    assert answer.headers["x-ratelimit-limit-requests"] == "10"
    assert "x-ratelimit-remaining-tokens" not in answer.headers


async def test_tokens_are_settled_by_usage_and_the_next_call_is_refused(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    [key] = await keys_of(gateway, Limits(budgets=(Budget("month", tokens=150),)))
    upstream.enqueue(whole("resp_1"), whole("resp_2"))
    assert [(await post(gateway, key)).status_code for _ in range(2)] == [200, 200]
    refused = await post(gateway, key)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert "Limit 150 tokens, Used 200 tokens" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 2


async def test_what_upstream_was_not_asked_costs_nothing(gateway: LiveGateway) -> None:
    [key] = await keys_of(gateway, Limits(tokens_per_minute=1000))
    answer = await post(gateway, key, previous_response_id="resp_nobody", max_output_tokens=900)
    assert answer.status_code == 400
    answer = await post(gateway, key, max_output_tokens=900, store=False)
    assert answer.status_code == 200
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 100


@pytest.mark.slow
async def test_streams_are_counted_until_their_client_is_gone(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    [key] = await keys_of(gateway, Limits(concurrent_streams=1, tokens_per_minute=100_000))
    frames, go = story("resp_1"), asyncio.Event()
    for _ in range(2):
        upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
        async with calling(gateway.url, key, input="Hello!") as call:
            await call.until(b"Once upon ")
            refused = await post(gateway, key, stream=True)
            assert refused.status_code == 429
            assert "concurrent streams: Limit 1, Used 1" in refused.json()["error"]["message"]
            assert (await post(gateway, key, store=False)).status_code == 200
            call.leave()
        await freed(gateway, key)


async def test_a_stream_whose_client_leaves_gives_its_output_back(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    [key] = await keys_of(gateway, Limits(concurrent_streams=1, tokens_per_minute=1000))
    frames = story("resp_1")
    upstream.enqueue(Reply.held(frames[:3], asyncio.Event(), frames[3:]))
    async with calling(gateway.url, key, input="x" * 400, max_output_tokens=800) as call:
        await call.until(b"Once upon ")
        call.leave()
    await freed(gateway, key)
    answer = await post(gateway, key, store=False)
    # The input is paid for: 104 tokens by estimate, and a little for each call since.
    assert 700 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 896


async def usage(gateway: LiveGateway, key: str) -> Any:
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        return (await client.get(f"{gateway.base_url}/usage", headers=gateway.headers(key))).json()


async def freed(gateway: LiveGateway, key: str) -> None:
    """Until the key may stream again."""
    async with asyncio.timeout(SECONDS):
        while (await post(gateway, key, stream=True, store=False)).status_code == 429:
            await asyncio.sleep(0.02)


async def test_the_cap_on_output_is_put_into_the_body_and_held_against_it(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    [key] = await keys_of(gateway, Limits(max_output_tokens=64))
    assert (await post(gateway, key)).status_code == 200
    assert (await post(gateway, key, max_output_tokens=20)).status_code == 200
    refused = await post(gateway, key, max_output_tokens=65)
    assert refused.json()["error"]["code"] == "integer_above_max_value"
    assert [request.json["max_output_tokens"] for request in upstream.requests] == [64, 20]


async def test_a_run_in_the_background_is_admitted_when_ordered_and_settled_when_made(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    [key] = await keys_of(
        gateway, Limits(requests_per_minute=3, max_output_tokens=64, budgets=(Budget("day", tokens=150),))
    )
    upstream.respond = lambda _: whole()
    async with BackgroundClient.to(gateway.url, key) as client:
        created = await client.create()
        assert created.headers["x-ratelimit-remaining-requests"] == "2"
        await client.ended(created.json()["id"])
        assert upstream.requests[0].json["max_output_tokens"] == 64
        await client.ended(await client.order())
        # A run is settled once its end was told.
        async with asyncio.timeout(SECONDS):
            while max(one["used"] for one in (await usage(gateway, key))["limits"]) < 150:
                await asyncio.sleep(0.02)
        refused = await client.create()
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"


async def test_turns_on_a_websocket_are_limited_one_by_one(gateway: LiveGateway) -> None:
    [key] = await keys_of(gateway, Limits(requests_per_minute=2, concurrent_streams=1))
    async with SocketClient.to(gateway, additional_headers=gateway.headers(key)) as client:
        for _ in range(2):
            await client.create()
            assert (await client.rest())[-1]["type"] == "response.completed"
        await client.create()
        [error] = await client.rest()
    assert (error["type"], error["status"], error["error"]["code"]) == ("error", 429, "rate_limit_exceeded")
    assert error["error"]["headers"]["x-antiphon-error-source"] == "gateway"
    assert int(error["error"]["headers"]["retry-after"]) > 0
