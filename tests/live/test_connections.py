"""A client's connection: in whatever pieces and order requests come, and when nothing comes."""

import asyncio

import pytest

from app.server import http, run
from tests.fakes.gateway import LiveGateway, running_gateway
from tests.fakes.raw_http import RawClient, head

pytestmark = pytest.mark.live

GOOD = b'{"model": "demo", "input": "Hello.", "store": false}'


def call(gateway: LiveGateway, body: bytes = GOOD) -> bytes:
    return head("POST", "/v1/responses", {**gateway.headers(), "content-length": str(len(body))}) + body


async def test_requests_that_come_together_are_answered_in_their_order(sqlite_gateway: LiveGateway) -> None:
    livez = head("GET", "/livez", {})
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(call(sqlite_gateway) + livez + call(sqlite_gateway, b"{}") + livez)
        assert [(await client.answer()).status for _ in range(4)] == [200, 200, 400, 200]


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
    monkeypatch.setattr(run, "_KEEP_ALIVE_SECONDS", 1)
    async with (
        running_gateway(sqlite_url) as gateway,
        RawClient.to(gateway.url) as fresh,
        RawClient.to(gateway.url) as used,
        RawClient.to(gateway.url) as refused,
    ):
        assert (await used.ask("GET", "/livez", {})).status == 200
        await refused.send(
            head("POST", "/v1/responses", {"authorization": "Bearer wrong", "content-length": "9"}) + b"{"
        )
        assert (await refused.answer()).status == 401
        async with asyncio.timeout(10):
            assert await fresh.rest() == await used.rest() == await refused.rest() == b""


async def test_the_rest_of_a_body_that_nobody_wanted_is_not_a_request(sqlite_gateway: LiveGateway) -> None:
    hidden = b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n"
    length = str(1 + len(hidden))
    wrong = {"content-type": "application/json", "authorization": "Bearer sk-wrong", "content-length": length}
    async with RawClient.to(sqlite_gateway.url) as client:
        await client.send(head("POST", "/v1/responses", wrong) + b"{")
        assert (await client.answer()).status == 401
        await client.send(hidden)
        assert (await client.ask("GET", "/nowhere", {})).status == 404
