"""What is not plain HTTP/1.1: served or refused as such, and the body of an upgrade is never read as a request."""

import pytest

from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import RawClient, head
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

GOOD = b'{"model": "demo", "input": "Hello."}'
HIDDEN = b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n"
# What Java's own client sends with its first request.
TO_HTTP2 = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAEAAEAAAAIAAAAB"}


async def test_a_client_that_offers_http2_is_served_and_keeps_its_connection(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        for number in range(2):
            answer = await client.ask("POST", "/v1/responses", {**sqlite_gateway.headers(), **TO_HTTP2}, GOOD)
            assert answer.status == 200, answer
            assert (await upstream.request(number)).json["input"] == "Hello."


@pytest.mark.parametrize("protocol", ["websocket", "TLS/1.0"])
async def test_the_body_of_an_upgrade_that_is_passed_over_is_not_a_request(
    sqlite_gateway: LiveGateway, protocol: str
) -> None:
    offer = {"connection": "Upgrade", "upgrade": protocol, "content-length": str(len(HIDDEN))}
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(head("POST", "/v1/responses", {**sqlite_gateway.headers(), **offer}))
        await client.send(HIDDEN)
        assert (await client.answer()).status == 400
        assert (await client.ask("GET", "/nowhere", {})).status == 404


async def test_the_offer_of_http2_in_a_body_is_the_clients_text(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    body = GOOD[:-1] + b"\r\nUpgrade: h2c\r\n}"
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(head("POST", "/v1/responses", {**sqlite_gateway.headers(), "content-length": str(len(body))}))
        await client.send(body)
        assert (await client.answer()).status == 400
        assert (await client.ask("GET", "/livez", {})).status == 200
    assert not upstream.requests


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
async def test_what_is_not_http_gets_an_error_like_every_other(sqlite_gateway: LiveGateway, sent: bytes) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(sent)
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}
        assert answer.headers["x-request-id"].startswith("req_")
        assert await client.rest() == b""
