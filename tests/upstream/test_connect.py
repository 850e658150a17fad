import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import orjson
import pytest

from app.errors import InvalidRequestError, UpstreamError, UpstreamRefusedError
from app.settings import UpstreamSettings
from app.upstream.account import Account
from app.upstream.faults import UpstreamBrokenError
from app.upstream.pool import PoolExhaustedError
from tests.fakes.upstream import Act, FakeUpstream, Recorded, Reply
from tests.upstream.rig import KEYS, Rig, rig, upstream_settings

EVENTS = [b"event: response.created\ndata: {}\n\n", b"event: response.completed\ndata: {}\n\n"]
SSE = b"".join(EVENTS)
pytestmark = pytest.mark.live


@pytest.fixture
def one(upstream: FakeUpstream, transport: httpx.AsyncBaseTransport) -> Rig:
    """One key."""
    return rig(transport, upstream_settings(upstream.url))


@pytest.fixture
def three(upstream: FakeUpstream, transport: httpx.AsyncBaseTransport) -> Rig:
    """Three keys of one upstream."""
    return rig(transport, upstream_settings(upstream.url, *KEYS))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert isinstance(port, int)
    return port


@asynccontextmanager
async def serving(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that does what `talk` does; the address it listens on."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            closed.set()

    closed = asyncio.Event()
    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1024)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await closed.wait()


async def failure(call: Awaitable[object]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await call
    return caught.value


async def test_an_answer_arrives_as_upstream_sent_it(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS, headers={"x-request-id": "req_up", "set-cookie": "a=b"}))
    answer = await one.open(b'{"model":"m","input":"hi"}', headers={"x-client-request-id": "abc", "cookie": "c=d"})
    assert b"".join([chunk async for chunk in answer.chunks()]) == SSE
    assert one.in_flight == 1
    await answer.aclose()
    await answer.aclose()
    assert one.in_flight == 0
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert answer.headers == {"content-type": "text/event-stream", "x-upstream-request-id": "req_up"}
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


async def test_a_json_answer_and_another_path(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.json(200, {"id": "resp_1"}))
    assert await one.read(stream=False, path="/responses/compact") == b'{"id":"resp_1"}'
    assert upstream.requests[0].path == "/v1/responses/compact"
    assert upstream.requests[0].headers["accept"] == "application/json"


async def test_connections_are_kept_and_used_again(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS), Reply.sse(EVENTS))
    assert await one.read() == SSE
    assert await one.read() == SSE
    assert upstream.connections == 1


async def test_a_keyless_upstream_is_called_without_authorization(
    upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    upstream.enqueue(Reply.sse(EVENTS))
    await rig(transport, UpstreamSettings(name="local", base_url=upstream.url)).read()
    assert "authorization" not in upstream.requests[0].headers


# What is tried again, and what the client is told in the end (reliability §4.1, §4.2).

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
async def test_one_healthy_key_of_three_is_enough(
    fault: Reply, upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    three = rig(transport, upstream_settings(upstream.url, *KEYS), first_byte_timeout_seconds=0.2)
    upstream.respond = lambda r: Reply.sse(EVENTS) if r.headers["authorization"].endswith(KEYS[2]) else fault
    assert await three.read() == SSE
    assert await three.read() == SSE
    # The broken ones were tried once, and stood back the second time.
    assert len(upstream.requests) == 4
    assert [account.name for account in three.rendered] == [
        *(account.name for account in three.pool.accounts()),
        three.pool.accounts()[2].name,
    ]
    assert three.in_flight == 0


@pytest.mark.parametrize("fault", [Reply.hang_up(), Reply.reset()], ids=["FIN", "RST"])
async def test_a_connection_closed_without_an_answer_is_tried_once_more(
    fault: Reply, upstream: FakeUpstream, three: Rig
) -> None:
    upstream.enqueue(Reply.sse(EVENTS), fault, Reply.sse(EVENTS))
    assert await three.read() == SSE
    assert await three.read() == SSE
    assert [request.connection for request in upstream.requests] == [1, 1, 2]
    assert upstream.requests[1].headers["authorization"] == upstream.requests[2].headers["authorization"]


async def test_an_upstream_that_always_hangs_up_gets_one_try_more_than_it_has_keys(
    upstream: FakeUpstream, three: Rig
) -> None:
    upstream.respond = lambda _: Reply.hang_up()
    error = await failure(three.open())
    assert (error.status, error.code) == (502, "upstream_disconnected")
    assert error.headers == {"x-should-retry": "false"}
    assert len(upstream.requests) == 4


@pytest.mark.parametrize(
    "fault", [Reply.sse([], then=Act.CLOSE), Reply.sse([]), Reply.raw(b"HTTP/1.1 204 None\r\n\r\n")]
)
async def test_an_empty_answer_is_none(fault: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(fault)
    error = await failure(one.open())
    assert (error.status, error.code) == (502, "upstream_disconnected")
    assert len(upstream.requests) == 1


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
    assert [round(three.pool.rest(account)) for account in three.pool.accounts()] == [300, 300, 300]
    with pytest.raises(PoolExhaustedError):
        await three.open()
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


async def test_a_status_counts_when_its_body_never_comes(
    upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    one = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=0.2)
    upstream.enqueue(Reply([Reply.head(401, {"content-length": "20"}), Act.STALL]))
    error = await failure(one.open())
    assert error.code == "upstream_authentication_error"
    await upstream.wait_until_idle()


async def test_a_refused_connection_is_unreachable_and_the_next_upstream_serves(
    upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    dead = upstream_settings(f"http://127.0.0.1:{free_port()}/v1", name="dead")
    error = await failure(rig(transport, dead).open())
    assert (error.status, error.code, error.message) == (502, "upstream_unreachable", "Upstream could not be reached.")
    upstream.enqueue(Reply.sse(EVENTS))
    assert await rig(transport, dead, upstream_settings(upstream.url)).read() == SSE


async def test_a_name_that_does_not_resolve_is_unreachable(transport: httpx.AsyncBaseTransport) -> None:
    error = await failure(rig(transport, upstream_settings("http://no-such-host.invalid/v1")).open())
    assert error.code == "upstream_unreachable"
    assert "invalid" not in error.message


async def test_a_server_that_speaks_no_tls_is_unreachable(transport: httpx.AsyncBaseTransport) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"220 smtp.internal ready\r\n")

    async with serving(greet) as address:
        error = await failure(rig(transport, upstream_settings(f"https://{address}/v1")).open())
    assert error.code == "upstream_unreachable"
    assert "internal" not in error.message


async def test_a_connection_that_is_never_accepted_times_out(transport: httpx.AsyncBaseTransport) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        slow = rig(transport, upstream_settings(f"http://127.0.0.1:{address[1]}/v1"), connect_timeout_seconds=0.2)
        error = await failure(slow.open())
        for filler in fillers:
            filler.close()
    assert (error.status, error.code) == (504, "upstream_timeout")


@pytest.mark.parametrize("fault", [Reply.stall(), Reply.sse([], then=Act.STALL), Reply.slow_head(0.05)])
async def test_an_answer_that_does_not_begin_in_time_is_given_up(
    fault: Reply, upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    slow = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=0.2)
    upstream.enqueue(fault)
    error = await failure(slow.open())
    assert (error.status, error.code) == (504, "upstream_timeout")
    await upstream.wait_until_idle()
    assert slow.in_flight == 0


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


# After the first byte.


async def test_nothing_is_tried_again_once_a_byte_is_here(upstream: FakeUpstream, three: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.RESET))
    answer = await three.open()
    with pytest.raises(UpstreamBrokenError) as caught:
        assert [chunk async for chunk in answer.chunks()] == []
    await answer.aclose()
    assert caught.value.code == "upstream_disconnected"
    assert len(upstream.requests) == 1
    assert three.in_flight == 0


@pytest.mark.parametrize(
    "fault", [Reply.sse(EVENTS[:1], then=Act.CLOSE), Reply.truncated(EVENTS[0]), Reply.sse(EVENTS[:1], then=Act.RESET)]
)
async def test_an_answer_that_is_cut_says_so_after_what_came(fault: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(fault)
    answer = await one.open()
    chunks = answer.chunks()
    assert await anext(chunks) == EVENTS[0]
    with pytest.raises(UpstreamBrokenError):
        await anext(chunks)
    await answer.aclose()


async def test_a_stream_that_falls_silent_is_given_up(
    upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    one = rig(transport, upstream_settings(upstream.url), idle_timeout_seconds=0.2)
    upstream.enqueue(Reply.sse(EVENTS, then=Act.STALL))
    answer = await one.open()
    chunks = answer.chunks()
    received = b""
    while len(received) < len(SSE):
        received += await anext(chunks)
    with pytest.raises(UpstreamBrokenError) as caught:
        await anext(chunks)
    await answer.aclose()
    assert received == SSE
    assert caught.value.code == "upstream_idle_timeout"
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 2)


async def test_the_time_a_reader_takes_is_not_silence(
    upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    one = rig(transport, upstream_settings(upstream.url), idle_timeout_seconds=0.2)
    upstream.enqueue(Reply.sse(EVENTS * 2, pause=0.1))
    answer = await one.open()
    received = b""
    async for chunk in answer.chunks():
        received += chunk
        await asyncio.sleep(0.3)
    await answer.aclose()
    assert received == SSE * 2


async def test_closing_early_closes_the_connection(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.STALL))
    answer = await one.open()
    assert await anext(answer.chunks()) == EVENTS[0]
    assert not upstream.requests[0].closed.is_set()
    await answer.aclose()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 2)
    assert one.in_flight == 0


async def test_closing_while_another_task_reads_ends_the_reader(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.STALL))
    answer = await one.open()
    chunks = answer.chunks()
    await anext(chunks)
    reader = asyncio.ensure_future(anext(chunks, None))
    await asyncio.sleep(0.05)
    await answer.aclose()
    assert one.in_flight == 0
    with pytest.raises(UpstreamBrokenError):
        await reader


async def test_a_cancelled_reader_leaves_nothing(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS, then=Act.STALL))

    async def relay() -> None:
        answer = await one.open()
        try:
            async for _ in answer.chunks():
                pass
        finally:
            await answer.aclose()

    task = asyncio.ensure_future(relay())
    await upstream.request()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.wait_until_idle()
    assert one.in_flight == 0


# Cancelled while it opens.


@pytest.mark.parametrize("fault", [Reply.stall(), Reply.sse([], then=Act.STALL), Reply.slow_head(0.01)])
async def test_cancelling_an_open_leaves_no_lease_and_no_connection(
    fault: Reply, upstream: FakeUpstream, three: Rig
) -> None:
    upstream.respond = lambda _: fault
    calls = [asyncio.ensure_future(three.open()) for _ in range(12)]
    await upstream.request(11)
    assert three.in_flight == 12
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert three.in_flight == 0
    await upstream.wait_until_idle()


async def test_cancelling_at_any_moment_leaves_nothing(
    upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    three = rig(transport, upstream_settings(upstream.url, *KEYS))
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.001)
    finished = 0
    for steps in range(40):
        call = asyncio.ensure_future(three.read())
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        finished += outcome == SSE
        assert three.in_flight == 0
    assert finished < 40
    assert await three.read() == SSE


async def test_a_body_that_cannot_be_rendered_takes_no_lease(upstream: FakeUpstream, one: Rig) -> None:
    def render(account: Account) -> bytes:
        raise InvalidRequestError(account.upstream.name)

    with pytest.raises(InvalidRequestError):
        await one.open(render=render)
    assert one.in_flight == 0
    assert upstream.requests == []


async def test_two_calls_share_out_the_keys(upstream: FakeUpstream, three: Rig) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.02)
    await asyncio.gather(*(three.read() for _ in range(6)))
    keys = [request.headers["authorization"] for request in upstream.requests]
    assert {keys.count(f"Bearer {key}") for key in KEYS} == {2}


async def test_an_account_that_was_cooled_meanwhile_is_not_tried(upstream: FakeUpstream, three: Rig) -> None:
    one, two, three_ = three.pool.accounts()

    def respond(_: Recorded) -> Reply:
        three.pool.cool(two, 30)
        return Reply.error(500) if len(upstream.requests) == 1 else Reply.sse(EVENTS)

    upstream.respond = respond
    assert await three.read() == SSE
    assert three.rendered == [one, three_]


# What must not travel.


async def test_a_redirect_is_not_followed_and_the_key_is_not_sent_on(upstream: FakeUpstream, one: Rig) -> None:
    async with FakeUpstream() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            upstream.enqueue(Reply.redirect(f"{elsewhere.url}/responses", status))
            error = await failure(one.open())
            assert (error.status, error.headers) == (502, {"x-should-retry": "false"})
        assert elsewhere.connections == 0
    assert len(upstream.requests) == 5


async def test_a_cookie_is_never_sent_back(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS, headers={"set-cookie": "session=1; Path=/"}), Reply.sse(EVENTS))
    await one.read()
    await one.read()
    assert "cookie" not in upstream.requests[1].headers


async def test_each_key_goes_to_its_own_upstream_only(transport: httpx.AsyncBaseTransport) -> None:
    async with FakeUpstream() as first, FakeUpstream() as second:
        both = rig(
            transport,
            upstream_settings(first.url, KEYS[0], name="first"),
            upstream_settings(second.url, KEYS[1], name="second"),
        )
        first.enqueue(Reply.error(500))
        second.enqueue(Reply.sse(EVENTS))
        await both.read()
        assert [r.headers["authorization"] for r in first.requests] == [f"Bearer {KEYS[0]}"]
        assert [r.headers["authorization"] for r in second.requests] == [f"Bearer {KEYS[1]}"]


@pytest.mark.parametrize(
    "reply", [Reply.stall(), Reply.hang_up(), Reply.html(500), Reply.error(401), Reply.huge_header(99_999)]
)
async def test_the_key_is_in_no_error_text(
    reply: Reply, upstream: FakeUpstream, transport: httpx.AsyncBaseTransport
) -> None:
    one = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=0.2)
    upstream.respond = lambda _: reply
    error = await failure(one.open())
    text = f"{error!r} {error} {error.body()!r} {dict(error.headers)} {error.__cause__!r} {error.__context__!r}"
    assert "canary" not in text
    assert "127.0.0.1" not in text


# Big bodies.


async def test_a_body_of_20_megabytes_arrives_intact(upstream: FakeUpstream, one: Rig) -> None:
    body = b'{"input":"' + bytes(range(48, 58)) * 2_000_000 + b'"}'
    upstream.enqueue(Reply.hang_up(), Reply.sse(EVENTS))
    assert await one.read(body) == SSE
    for request in upstream.requests:
        assert request.body == body
        assert request.headers["content-length"] == str(len(body))
        assert "transfer-encoding" not in request.headers


async def test_an_upstream_that_answers_before_the_body_is_sent_is_heard(transport: httpx.AsyncBaseTransport) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = Reply.error(413, "string_above_max_length").steps[0]
        assert isinstance(answer, bytes)
        writer.write(answer)
        await reader.read()

    async with serving(refuse) as address:
        one = rig(transport, upstream_settings(f"http://{address}/v1"))
        error = await failure(one.open(b"x" * 20_000_000))
    assert error.status == 413
    assert one.in_flight == 0


async def test_an_upstream_that_reads_nothing_holds_no_call_beyond_its_time(
    transport: httpx.AsyncBaseTransport,
) -> None:
    given_up = asyncio.Event()

    async def stall(*_: object) -> None:
        await given_up.wait()

    async with serving(stall) as address:
        one = rig(transport, upstream_settings(f"http://{address}/v1"), first_byte_timeout_seconds=0.3)
        error = await failure(one.open(b"x" * 20_000_000))
        given_up.set()
    assert error.code == "upstream_timeout"
    assert one.in_flight == 0
