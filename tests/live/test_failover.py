"""An honest pool: one healthy key among broken ones serves every call; when none is, the client is told the truth."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.passthrough import MESSAGES
from tests.fakes.ports import free_port
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Reply
from tests.fakes.streams import frame
from tests.fakes.surfaces import SURFACES, respond
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

KEYS = ("sk-canary-one", "sk-canary-two", "sk-canary-three")


class Keys:
    """An upstream's opinion of each key; whoever is not named is served. `asked` counts what each key asked."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.bad: dict[str, Reply] = {}
        self.asked: list[str] = []
        upstream.respond = self._respond

    def _respond(self, request: Recorded) -> Reply | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append(key)
        return self.bad.get(key)


@pytest.fixture
def keys(upstream: FakeUpstream) -> Keys:
    return Keys(upstream)


@pytest.fixture
async def pooled(sqlite_url: str, upstream: FakeUpstream, keys: Keys) -> AsyncIterator[LiveGateway]:
    """A gateway with three keys for one upstream."""
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, *KEYS)]) as gateway:
        yield gateway


# Where a call goes, what it says, and what a good answer has.
WAYS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "whole": ("/responses", {"input": "Hello."}, b'"completed"'),
    "stream": ("/responses", {"input": "Hello.", "stream": True}, b'"completed"'),
    "chat": ("/chat/completions", {"messages": MESSAGES}, b'"chat.completion"'),
    "chat stream": ("/chat/completions", {"messages": MESSAGES, "stream": True}, b"[DONE]"),
    "embeddings": ("/embeddings", {"input": "Hello."}, b'"embedding"'),
}


async def create(gateway: LiveGateway, way: str = "whole", **members: Any) -> Answer:
    path, call, _ = WAYS[way]
    body = orjson.dumps({"model": "demo", **call, **members})
    async with RawClient.to(gateway.url) as client:
        answer = await client.ask("POST", f"/v1{path}", gateway.headers(), body)
    for key in KEYS:
        assert key.encode() not in answer.body
    return answer


FAULTS = {
    "401": Reply.error(401, "invalid_api_key", message=f"Incorrect API key provided: {KEYS[0]}."),
    "402": Reply.error(402, "billing"),
    "403": Reply.error(403, "unsupported_country_region_territory"),
    "429": Reply.error(429, "rate_limit_exceeded", {"retry-after": "30"}),
    "429 of the quota": Reply.error(429, "insufficient_quota"),
    "a limit in a 200": Reply.json(200, {"error": {"message": "Slower.", "code": 429}}, {"retry-after": "30"}),
    "a limit in an event": Reply.sse(
        [frame("error", 0, code="rate_limit_exceeded", message="Slower.", param=None)], headers={"retry-after": "30"}
    ),
    "500": Reply.error(500, "server_error"),
    "502": Reply.html(502),
    "503": Reply.error(503, "server_is_overloaded"),
    "an error in a 200": Reply.json(200, {"error": {"message": "The server had an error.", "code": 500}}),
    "a reset": Reply.reset(),
}
OUT = ("401", "402", "403", "429", "429 of the quota", "a limit in a 200", "a limit in an event")


@pytest.mark.parametrize(
    ("way", "name"),
    # An event in the place of a whole completion is passed on as it is.
    [(way, name) for way in WAYS for name in OUT if way not in ("chat", "embeddings") or "event" not in name],
)
async def test_one_healthy_key_of_three_serves_every_call(pooled: LiveGateway, keys: Keys, way: str, name: str) -> None:
    keys.bad = dict.fromkeys(KEYS[:2], FAULTS[name])
    for _ in range(8):
        answer = await create(pooled, way)
        assert answer.status == 200
        assert WAYS[way][2] in answer.body
    assert keys.asked.count(KEYS[2]) == 8
    # A key that is known to be bad is left alone.
    assert keys.asked.count(KEYS[0]) <= 1
    assert keys.asked.count(KEYS[1]) <= 1


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {*OUT, "a reset"}))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_two_failing_keys_of_three_cost_no_call(pooled: LiveGateway, keys: Keys, name: str, stream: bool) -> None:
    keys.bad = dict.fromkeys(KEYS[:2], FAULTS[name])
    for _ in range(8):
        answer = await create(pooled, stream=stream)
        assert answer.status == 200
    assert keys.asked.count(KEYS[0]) <= 1
    assert keys.asked.count(KEYS[1]) <= 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_one_key_of_three_whose_connections_are_reset_costs_one_call_and_no_third_generation(
    pooled: LiveGateway, keys: Keys, stream: bool
) -> None:
    keys.bad = {KEYS[0]: FAULTS["a reset"]}
    statuses = []
    for _ in range(8):
        keys.asked.clear()
        statuses.append((await create(pooled, stream=stream)).status)
        # A kept connection that is reset may be a stale one: its account is asked once more, and nobody else.
        assert len(keys.asked) <= 2
    assert sorted(set(statuses) - {200}) in ([], [502])
    assert statuses.count(502) <= 1


async def test_a_failing_upstream_is_asked_once_with_each_key_for_a_call(pooled: LiveGateway, keys: Keys) -> None:
    keys.bad = dict.fromkeys(KEYS, FAULTS["500"])
    answer = await create(pooled)
    assert (answer.status, answer.json["error"]["code"]) == (500, "server_error")
    assert answer.headers["x-should-retry"] == "false"
    assert len(keys.asked) == len(set(keys.asked)) == 3


async def test_keys_that_upstream_does_not_accept_are_the_gateways_fault_and_not_the_clients(
    pooled: LiveGateway, keys: Keys
) -> None:
    keys.bad = dict.fromkeys(KEYS, FAULTS["401"])
    answer = await create(pooled)
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_authentication_error")
    assert sorted(keys.asked) == sorted(KEYS)
    assert 29 <= int(answer.headers["retry-after"]) <= 33
    assert answer.headers["x-should-retry"] == "false"


async def test_a_pool_at_rest_says_when_to_come_back_and_asks_nobody(pooled: LiveGateway, keys: Keys) -> None:
    keys.bad = {
        key: Reply.error(429, "rate_limit_exceeded", {"retry-after": seconds})
        for key, seconds in zip(KEYS, ("50", "20", "40"), strict=True)
    }
    for _ in range(3):
        answer = await create(pooled)
        assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 10 <= int(answer.headers["retry-after"]) <= 20
    assert sorted(keys.asked) == sorted(KEYS)


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_request_larger_than_every_keys_limit_fails_and_rests_none(
    sqlite_url: str, upstream: FakeUpstream, keys: Keys, surface: str
) -> None:
    said = "Request too large for demo on tokens per min (TPM): Limit 30000, Requested 50000."
    keys.bad = dict.fromkeys(KEYS, Reply.error(429, "rate_limit_exceeded", {"retry-after": "60"}, said))
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, *KEYS)]) as gateway:
        refused = await respond(gateway, surface, input="Hello.")
        assert (refused["status"], refused["error"]["code"]) == (
            "failed" if surface == "background" else 429,
            "rate_limit_exceeded",
        )
        assert refused["error"]["message"] == said
        keys.bad = {}
        for _ in KEYS:
            assert (await create(gateway, store=False)).status == 200
    # Each was asked once for it, and none rested.
    assert len(keys.asked) == 6


@pytest.mark.parametrize("name", FAULTS)
async def test_the_last_upstream_serves_what_the_others_cannot(
    sqlite_url: str, upstream: FakeUpstream, name: str
) -> None:
    gone = f"http://127.0.0.1:{free_port()}/v1"
    upstream.respond = lambda _: FAULTS[name]
    async with FakeUpstream() as last:
        upstreams = [
            upstream_settings(gone, "sk-gone", name="gone"),
            upstream_settings(upstream.url, "sk-bad", name="bad"),
            upstream_settings(last.url, "sk-last", name="last"),
        ]
        async with running_gateway(sqlite_url, upstreams) as gateway:
            assert (await create(gateway)).status == 200
        # No upstream is shown another's key.
        assert {request.headers["authorization"] for request in last.requests} == {"Bearer sk-last"}
        assert {request.headers["authorization"] for request in upstream.requests} == {"Bearer sk-bad"}


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_upstreams_refusal_of_the_call_is_relayed_and_tried_nowhere_else(
    pooled: LiveGateway, keys: Keys, status: int
) -> None:
    said = (
        b'{ "error": {"message": "No \\u00e9.", "type": "invalid_request_error", "param": "x", "code": null, "y": 1} }'
    )
    keys.bad = dict.fromkeys(KEYS, Reply.body(status, said, {"x-request-id": "req_theirs", "set-cookie": "a=b"}))
    answer = await create(pooled)
    assert (answer.status, answer.body) == (status, said)
    assert answer.headers["x-upstream-request-id"] == "req_theirs"
    assert answer.headers["x-request-id"].startswith("req_")
    assert "set-cookie" not in answer.headers
    assert len(keys.asked) == 1
    # It says nothing against the key.
    keys.bad = {}
    assert (await create(pooled)).status == 200


async def test_a_refusal_in_another_shape_is_put_into_openais(pooled: LiveGateway, keys: Keys) -> None:
    for said, heard in (
        (b'{"detail": "Unsupported parameter: x"}', "Unsupported parameter: x"),
        (b"<html>no</html>", "Upstream answered with HTTP 400 and no usable error."),
        (b"", "Upstream answered with HTTP 400 and no usable error."),
    ):
        keys.bad = dict.fromkeys(KEYS, Reply.body(400, said))
        answer = await create(pooled)
        error = {"message": heard, "type": "invalid_request_error", "param": None, "code": None}
        assert (answer.status, answer.json) == (400, {"error": error})
