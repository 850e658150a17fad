"""A client's connection: in whatever pieces and order requests come, and when nothing comes."""

import asyncio

import pytest

from app.server import run
from app.server.http import protocol as http
from tests.fakes.gateway import LiveGateway, running_gateway
from tests.fakes.raw_http import RawClient, head
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import item, response, story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

GOOD = b'{"model": "demo", "input": "Hello.", "store": false}'


def call(gateway: LiveGateway, body: bytes = GOOD) -> bytes:
    return head("POST", "/v1/responses", {**gateway.headers(), "content-length": str(len(body))}) + body


async def test_requests_that_come_together_are_answered_in_their_order(sqlite_gateway: LiveGateway) -> None:
    livez = head("GET", "/livez", {})
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(call(sqlite_gateway) + livez + call(sqlite_gateway, b"{}") + livez)
        assert [(await client.answer()).status for _ in range(4)] == [200, 200, 400, 200]


async def test_each_probe_can_be_asked_for_its_head(sqlite_gateway: LiveGateway) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        for path in ("/livez", "/readyz", "/health", "/healthz"):
            whole = await client.ask("GET", path, {})
            await client.send(head("HEAD", path, {}))
            status, headers = await client._head()
            assert (status, headers["content-length"]) == (200, whole.headers["content-length"]), path


async def test_the_server_itself_can_be_asked_for_its_options(sqlite_gateway: LiveGateway) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(head("OPTIONS", "*", {}))
        status, headers = await client._head()
        assert (status, "GET" in headers["allow"]) == (204, True)
        assert (await client.ask("OPTIONS", "/v1/responses", {})).status == 405


async def test_a_client_that_ended_its_side_gets_its_answer(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(call(sqlite_gateway))
        client._writer.write_eof()
        answer = await client.answer()
        assert answer.status == 200
        assert await client.rest() == b""


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_sent_its_next_request_and_left_is_noticed(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    frames = story("resp_left")[:3]
    upstream.enqueue(Reply.sse(frames, then=Act.STALL) if stream else Reply.stall())
    async with RawClient.to(sqlite_gateway.url) as client:
        body = GOOD.replace(b"}", b', "stream": true}') if stream else GOOD
        await client.send(call(sqlite_gateway, body))
        request = await upstream.request()
        if stream:
            await client._reader.readuntil(frames[-1])
        await client.send(call(sqlite_gateway) * 2)
    await asyncio.wait_for(request.closed.wait(), 10)


async def test_a_slow_answer_to_a_client_that_ended_its_side_is_waited_for(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    go = asyncio.Event()
    whole = Reply.json(200, response("resp_late", "completed", [item("late")]))
    upstream.enqueue(Reply([go, *whole.steps]))
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(call(sqlite_gateway))
        client._writer.write_eof()
        assert (await client._head())[0] == 100
        go.set()
        assert (await client.answer()).status == 200


async def test_a_client_that_sends_byte_by_byte_is_served_like_one_that_repeats_itself(
    sqlite_gateway: LiveGateway,
) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        for number in range(4):
            sent = call(sqlite_gateway, GOOD + b" " * number)
            for piece in [sent] if number % 2 else [sent[at : at + 1] for at in range(len(sent))]:
                await client.send(piece)
            answer = await client.answer()
            assert (answer.status, answer.json["model"]) == (200, "demo")


async def test_a_head_that_does_not_end_is_given_up(
    sqlite_gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_HEAD_SECONDS", 0.2)
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(b"POST /v1/responses HTTP/1.1\r\nhost: ")
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (408, "request_timeout")
        assert await client.rest() == b""


async def test_a_connection_on_which_nothing_comes_is_closed(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_KEEP_ALIVE_SECONDS", 2)
    async with (
        running_gateway(sqlite_url) as gateway,
        RawClient.to(gateway.url) as fresh,
        RawClient.to(gateway.url) as used,
    ):
        assert (await used.ask("GET", "/livez", {})).status == 200
        async with asyncio.timeout(10):
            assert await fresh.rest() == await used.rest() == b""


@pytest.mark.parametrize("framing", ["content-length: 9\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_a_refused_call_whose_body_never_comes_ends_soon(sqlite_gateway: LiveGateway, framing: str) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(f"POST /v1/responses HTTP/1.1\r\nhost: a\r\nauthorization: Bearer no\r\n{framing}".encode())
        assert (await client.answer()).status == 401
        async with asyncio.timeout(15):
            assert await client.rest() == b""


async def test_trailers_without_an_end_are_dropped_and_end_the_connection(sqlite_gateway: LiveGateway) -> None:
    for path, headers, status in (("/v1/responses", {}, 401), ("/v1/responses", sqlite_gateway.headers(), 431)):
        async with RawClient.to(sqlite_gateway.url) as client:
            await client.send(head("POST", path, {**headers, "transfer-encoding": "chunked"}) + b"0\r\n")
            await client.send(b"x-forwarded-for: 10.0.0.1\r\n" * 1000)
            answer = await client.answer()
            assert (answer.status, answer.json["error"]["code"]) == (status, "headers_too_large" if headers else None)
            assert await client.rest() == b""


async def test_the_rest_of_a_body_that_nobody_wanted_is_not_a_request(sqlite_gateway: LiveGateway) -> None:
    hidden = b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n"
    length = str(1 + len(hidden))
    wrong = {"content-type": "application/json", "authorization": "Bearer sk-wrong", "content-length": length}
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(head("POST", "/v1/responses", wrong) + b"{")
        assert (await client.answer()).status == 401
        await client.send(hidden)
        assert (await client.ask("GET", "/nowhere", {})).status == 404
