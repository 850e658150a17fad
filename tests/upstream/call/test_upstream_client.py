"""One call through the pool: what is tried again, where, and what the client is told in the end."""

import asyncio

import orjson
import pytest

from app.errors import InvalidRequestError, UpstreamError, UpstreamRefusedError
from app.settings.upstreams import UpstreamSettings
from app.upstream.account import Account
from app.upstream.transport import Transport
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.upstream.rig import EVENTS, KEYS, SSE, Rig, cooling, failure, read_all, rig, upstream_settings

pytestmark = pytest.mark.live


async def test_an_answer_arrives_as_upstream_sent_it(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS, headers={"x-request-id": "req_up", "set-cookie": "a=b"}))
    answer = await one.open(b'{"model":"m","input":"hi"}', headers={"x-client-request-id": "abc", "cookie": "c=d"})
    assert await read_all(answer) == SSE
    assert one.in_flight == 1
    await answer.aclose()
    await answer.aclose()
    assert one.in_flight == 0
    assert (answer.status, answer.is_stream) == (200, True)
    assert dict(answer.headers) == {b"content-type": b"text/event-stream", b"x-upstream-request-id": b"req_up"}
    assert answer.account is one.rendered[0]
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.body == b'{"model":"m","input":"hi"}'
    assert dict(request.headers).keys() == {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "x-client-request-id",
    }


async def test_a_whole_answer_is_asked_for_as_json(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.json(200, {"id": "resp_1"}))
    assert await one.read(stream=False) == b'{"id":"resp_1"}'
    assert upstream.requests[0].headers["accept"] == "application/json"


async def test_connections_are_kept_and_used_again(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS), Reply.sse(EVENTS))
    assert await one.read() == SSE
    assert await one.read() == SSE
    assert upstream.connections == 1


async def test_a_keyless_upstream_is_called_without_authorization(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(Reply.sse(EVENTS))
    await rig(transport, UpstreamSettings(name="local", base_url=upstream.url)).read()
    assert "authorization" not in upstream.requests[0].headers


BROKEN = [
    Reply.error(401, "invalid_api_key"),
    Reply.error(402),
    Reply.error(403),
    Reply.error(408),
    Reply.error(429, "rate_limit_exceeded", {"retry-after": "15"}),
    Reply.error(429, "insufficient_quota"),
    Reply.error(500),
    Reply.html(502),
    Reply.error(503),
    Reply.html(504),
    Reply.redirect("http://127.0.0.1:1/elsewhere"),
    Reply.truncated(b"", missing=20),
    Reply.truncated(b"half an err", status=500),
    Reply.sse([], then=Act.CLOSE),
    Reply.sse([], then=Act.RESET),
    Reply.close_delimited([]),
    Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text"),
    Reply.raw(b"ICY 200 OK\r\n\r\n"),
    Reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n"),
    Reply.huge_header(100_000),
    Reply.stall(),
    Reply.sse([], then=Act.STALL),
    Reply.slow_head(0.05),
]


@pytest.mark.parametrize("fault", BROKEN, ids=range(len(BROKEN)))
async def test_a_healthy_key_beside_a_broken_one_is_enough(
    fault: Reply, upstream: FakeUpstream, transport: Transport
) -> None:
    two = rig(transport, upstream_settings(upstream.url, *KEYS[:2]), first_byte_timeout_seconds=3)
    upstream.respond = lambda r: Reply.sse(EVENTS) if r.headers["authorization"].endswith(KEYS[1]) else fault
    broken, healthy = two.pool.accounts()
    for _ in range(8):
        assert await two.read() == SSE
    # The broken one was tried once at most, and stood back from then on.
    assert two.rendered.count(broken) <= 1
    assert two.rendered.count(healthy) == 8
    assert two.in_flight == 0


@pytest.mark.parametrize("fault", BROKEN[:3] + BROKEN[4:6])
async def test_the_whole_pool_is_walked_past_keys_that_are_out(
    fault: Reply, upstream: FakeUpstream, transport: Transport
) -> None:
    keys = [f"sk-canary-{number}" for number in range(10)]
    ten = rig(transport, upstream_settings(upstream.url, *keys))
    upstream.respond = lambda r: Reply.sse(EVENTS) if r.headers["authorization"].endswith(keys[7]) else fault
    for _ in range(30):
        assert await ten.read() == SSE
    assert len(upstream.requests) <= 30 + 9


@pytest.mark.parametrize(
    "fault", [Reply.sse([], then=Act.CLOSE), Reply.sse([]), Reply.raw(b"HTTP/1.1 204 None\r\n\r\n")]
)
async def test_an_empty_answer_is_none(fault: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(fault)
    error = await failure(one.open())
    assert (error.status, error.code) == (502, "upstream_disconnected")
    assert len(upstream.requests) == 1
    assert one.client.possible_duplicates == 0


async def test_the_clients_fault_is_not_tried_again(upstream: FakeUpstream, three: Rig) -> None:
    upstream.enqueue(Reply.error(400, "unknown_parameter", {"x-request-id": "req_up"}))
    error = await failure(three.open())
    assert isinstance(error, UpstreamRefusedError)
    assert (error.status, orjson.loads(error.body())["error"]["code"]) == (400, "unknown_parameter")
    assert error.headers == {"x-upstream-request-id": "req_up"}
    assert len(upstream.requests) == 1
    assert three.in_flight == 0


async def test_a_refused_key_is_left_out_and_the_client_sees_no_401(upstream: FakeUpstream, three: Rig) -> None:
    upstream.respond = lambda _: Reply.error(401, "invalid_api_key", message=f"Incorrect API key: {KEYS[0]}")
    error = await failure(three.open())
    assert (error.status, error.code) == (502, "upstream_authentication_error")
    assert b"canary" not in error.body()
    assert 29 <= int(error.headers["retry-after"]) <= 33
    assert error.headers["x-should-retry"] == "false"
    error = await failure(three.open())
    assert (error.status, error.code) == (502, "upstream_authentication_error")
    assert len(upstream.requests) == 3


async def test_a_pool_that_is_rate_limited_passes_on_the_shortest_wait(upstream: FakeUpstream, three: Rig) -> None:
    waits = iter(("20", "7", "30"))
    upstream.respond = lambda _: Reply.error(429, "rate_limit_exceeded", {"retry-after": next(waits)})
    error = await failure(three.open())
    assert (error.status, error.headers["retry-after"]) == (429, "7")
    assert "x-should-retry" not in error.headers
    error = await failure(three.open())
    assert (error.status, error.code, error.headers["retry-after"]) == (429, "rate_limit_exceeded", "7")
    assert len(upstream.requests) == 3


async def test_the_last_fault_decides(upstream: FakeUpstream, three: Rig) -> None:
    upstream.enqueue(Reply.error(429), Reply.error(401), Reply.error(503, "server_is_overloaded"))
    error = await failure(three.open())
    assert (error.status, orjson.loads(error.body())["error"]["code"]) == (503, "server_is_overloaded")
    assert error.headers == {"x-should-retry": "false"}


async def test_an_html_error_is_replaced(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.html(503, f"<html>{KEYS[0]}</html>"))
    error = await failure(one.open())
    assert error.status == 502
    assert error.message == "Upstream answered with HTTP 503 and no usable error."


async def test_an_endless_error_body_is_read_no_further_than_its_limit(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply([Reply.head(413, {"transfer-encoding": "chunked"}), b"10000\r\n" + bytes(65536), Act.STALL]))
    upstream.enqueue(
        Reply([Reply.head(400, {"transfer-encoding": "chunked"}), *[b"8000\r\n" + bytes(32768) + b"\r\n"] * 99])
    )
    error = await failure(one.open())
    assert error.status == 413
    error = await failure(one.open())
    assert error.status == 400
    await upstream.wait_until_idle()


async def test_a_status_counts_when_its_body_never_comes(upstream: FakeUpstream, transport: Transport) -> None:
    one = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=2)
    upstream.enqueue(Reply([Reply.head(401, {"content-length": "20"}), Act.STALL]))
    error = await failure(one.open())
    assert error.code == "upstream_authentication_error"
    await upstream.wait_until_idle()


async def test_one_deadline_covers_the_head_and_the_first_bytes(upstream: FakeUpstream, transport: Transport) -> None:
    one = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=0.5)
    upstream.enqueue(Reply([0.3, Reply.head(200, {"content-length": "2"}), 0.3, b"{}"]))
    error = await failure(one.open())
    assert (error.status, error.code) == (504, "upstream_timeout")
    await upstream.wait_until_idle()


async def test_early_hints_are_passed_over(upstream: FakeUpstream, one: Rig) -> None:
    whole = Reply.json(200, {}).steps[0]
    assert isinstance(whole, bytes)
    upstream.enqueue(Reply.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + whole))
    assert await one.read() == b"{}"


async def test_a_header_of_60_kilobytes_is_taken(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.huge_header(60_000))
    assert await one.read() == b"{}"


async def test_an_encoded_answer_is_an_error_and_not_asked_for_again(upstream: FakeUpstream, three: Rig) -> None:
    upstream.enqueue(Reply.body(200, b"\x1f\x8b\x08broken", {"content-encoding": "gzip"}))
    with pytest.raises(UpstreamError) as caught:
        await three.open()
    assert caught.value.code == "upstream_invalid_answer"
    assert caught.value.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1
    assert three.in_flight == 0


async def test_a_body_that_cannot_be_rendered_takes_no_lease(upstream: FakeUpstream, one: Rig) -> None:
    def render(account: Account) -> bytes:
        raise InvalidRequestError(account.upstream.name)

    with pytest.raises(InvalidRequestError):
        await one.open(body_of=render)
    assert one.in_flight == 0
    assert upstream.requests == []


async def test_two_calls_share_out_the_keys(upstream: FakeUpstream, three: Rig) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.02)
    await asyncio.gather(*(three.read() for _ in range(6)))
    keys = [request.headers["authorization"] for request in upstream.requests]
    assert {keys.count(f"Bearer {key}") for key in KEYS} == {2}


async def test_an_account_that_was_cooled_meanwhile_is_not_tried(upstream: FakeUpstream, three: Rig) -> None:
    one, two, last = three.pool.accounts()

    def respond(_: Recorded) -> Reply:
        three.pool.apply([cooling(two, 30)])
        return Reply.error(500) if len(upstream.requests) == 1 else Reply.sse(EVENTS)

    upstream.respond = respond
    assert await three.read(prefer=one.name) == SSE
    assert three.rendered == [one, last]
