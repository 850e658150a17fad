"""How a body arrives: too large, too slowly, or not as it was announced."""

from collections.abc import AsyncIterator

import orjson
import pytest

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_http import Answer, RawClient, chunked, head
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

GOOD = b'{"model": "demo", "input": "Hello."}'
MOST = 1000
CHUNKED = {"transfer-encoding": "chunked"}


@pytest.fixture
async def strict(sqlite_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """A gateway that takes little."""
    upstreams = [upstream_settings(upstream.url, "sk-one")]
    async with running_gateway(sqlite_url, upstreams, server={"max_body_bytes": MOST}) as gateway:
        yield gateway


def padded(size: int) -> bytes:
    """A good body of exactly this size."""
    return GOOD + b" " * (size - len(GOOD))


def check(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["error"]["code"]) == (status, code), answer
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_body_above_the_limit_is_refused_and_one_at_it_is_served(strict: LiveGateway) -> None:
    headers = strict.headers()
    async with RawClient.to(strict.url) as client:
        for framing, framed in ({}, bytes), (CHUNKED, chunked):
            for size, status in (MOST, 200), (MOST + 1, 413), (MOST, 200), (MOST * 300, 413), (MOST, 200):
                answer = await client.ask("POST", "/v1/responses", {**headers, **framing}, framed(padded(size)))
                assert answer.status == status, (framing, size)
                if status == 413:
                    check(answer, 413, "request_too_large")


async def test_a_length_above_the_limit_is_refused_before_a_byte_of_it_is_sent(strict: LiveGateway) -> None:
    for announced in (MOST + 1, 10**12, 10**18):
        async with RawClient.to(strict.url) as client:
            headers = {**strict.headers(), "content-length": str(announced)}
            await client.send(head("POST", "/v1/responses", headers))
            check(await client.answer(), 413, "request_too_large")


async def test_chunks_are_refused_once_they_pass_the_limit(strict: LiveGateway) -> None:
    async with RawClient.to(strict.url) as client:
        await client.send(head("POST", "/v1/responses", {**strict.headers(), **CHUNKED}))
        await client.send(b"%x\r\n%b\r\n" % (MOST + 1, padded(MOST + 1)))
        check(await client.answer(), 413, "request_too_large")


@pytest.mark.parametrize("framing", [CHUNKED, {"content-length": str(len(GOOD))}], ids=["chunked", "length"])
async def test_a_body_that_does_not_arrive_in_time_is_refused(
    gateway_with: GatewayWith, framing: dict[str, str]
) -> None:
    first = b"5\r\n" + GOOD[:5] + b"\r\n" if framing is CHUNKED else GOOD[:5]
    rest = chunked(GOOD[5:]) if framing is CHUNKED else GOOD[5:]
    server = {"body_timeout_seconds": 2}
    async with gateway_with(server=server) as gateway, RawClient.to(gateway.url) as client:
        await client.send(head("POST", "/v1/responses", {**gateway.headers(), **framing}) + first)
        check(await client.answer(), 408, "request_timeout")
        # Should the rest come after all, the connection serves on.
        await client.send(rest)
        assert (await client.ask("POST", "/v1/responses", gateway.headers(), GOOD)).status == 200


async def test_a_body_in_pieces_is_served(strict: LiveGateway) -> None:
    async with RawClient.to(strict.url) as client:
        pieces = [GOOD[place : place + 1] for place in range(len(GOOD))]
        answer = await client.ask("POST", "/v1/responses", {**strict.headers(), **CHUNKED}, chunked(*pieces))
        assert answer.status == 200
        assert orjson.loads(answer.body)["status"] == "completed"


async def test_a_client_that_asks_whether_to_go_on_is_told(strict: LiveGateway) -> None:
    async with RawClient.to(strict.url) as client:
        headers = {**strict.headers(), "content-length": str(len(GOOD)), "expect": "100-continue"}
        await client.send(head("POST", "/v1/responses", headers))
        await client.send(GOOD)
        assert (await client.answer()).status == 200


async def test_two_requests_in_one_write_get_two_answers(strict: LiveGateway) -> None:
    request = head("POST", "/v1/responses", {**strict.headers(), "content-length": str(len(GOOD))}) + GOOD
    async with RawClient.to(strict.url) as client:
        await client.send(request * 2)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
