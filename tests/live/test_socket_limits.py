"""WebSocket mode's edges: what is refused and how, what is bounded, and how a connection ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.ids import new_id
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import RawClient, head
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SECONDS, SocketClient
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
async def client(sqlite_gateway: LiveGateway) -> AsyncIterator[SocketClient]:
    async with SocketClient.to(sqlite_gateway) as client:
        yield client


async def test_an_upgrade_with_a_wrong_key_gets_the_error_that_a_call_gets(sqlite_gateway: LiveGateway) -> None:
    for headers in ({"authorization": "Bearer sk-wrong"}, {}):
        with pytest.raises(InvalidStatus) as refused:
            async with SocketClient.to(sqlite_gateway, additional_headers=headers):
                pass
        answer = refused.value.response
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"].startswith("req_")
        assert orjson.loads(answer.body)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/responses/", "/responses", "/v1//responses?x=1"])
async def test_the_path_is_read_as_it_was_meant(sqlite_gateway: LiveGateway, path: str) -> None:
    async with SocketClient.to(sqlite_gateway, path) as client:
        assert client.connection.response is not None
        assert client.connection.response.headers["x-request-id"].startswith("req_")
        await client.respond()


async def test_there_is_no_socket_elsewhere(sqlite_gateway: LiveGateway) -> None:
    for path in ("/v1/models", "/livez", "/v1/responses/resp_1"):
        with pytest.raises(InvalidStatus) as refused:
            async with SocketClient.to(sqlite_gateway, path):
                pass
        assert refused.value.response.status_code == 404
        assert orjson.loads(refused.value.response.body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("broken", "status"), [({"sec-websocket-key": "short"}, 400), ({"sec-websocket-version": "8"}, 426)]
)
async def test_an_upgrade_that_breaks_the_protocol_gets_an_error_like_every_other(
    sqlite_gateway: LiveGateway, broken: dict[str, str], status: int
) -> None:
    async with RawClient.to(sqlite_gateway.url) as raw:
        await raw.send(head("GET", "/v1/responses", {**sqlite_gateway.headers(), **UPGRADE, **broken}))
        answer = await raw.answer()
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert answer.headers.get("sec-websocket-version") == ("13" if status == 426 else None)
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert answer.headers["x-request-id"].startswith("req_")
        assert await raw.rest() == b""


async def test_an_upgrade_with_a_body_is_a_request_with_one(sqlite_gateway: LiveGateway) -> None:
    async with RawClient.to(sqlite_gateway.url) as raw:
        headers = {**sqlite_gateway.headers(), **UPGRADE, "content-length": "3"}
        await raw.send(head("GET", "/v1/responses", headers) + b"abc" + head("GET", "/livez", {}))
        assert [(await raw.answer()).status for _ in range(2)] == [405, 200]


async def test_an_upgrade_waits_for_the_answers_before_it_and_nothing_waits_behind_it(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    body = b'{"model": "demo", "input": "Hello."}'
    headers = {**sqlite_gateway.headers(), "content-length": str(len(body))}
    call, upgrade = head("POST", "/v1/responses", headers) + body, head("GET", "/v1/responses", UPGRADE)
    for behind, status in ((b"", 401), (head("GET", "/livez", {}), 400), (b"\x81\x80\0\0\0\0", 400)):
        async with RawClient.to(sqlite_gateway.url) as raw:
            await raw.send(call + upgrade + behind)
            assert [(await raw.answer()).status for _ in range(2)] == [200, status]
            assert await raw.rest() == b""


async def test_a_plain_get_is_not_allowed(sqlite_gateway: LiveGateway) -> None:
    async with RawClient.to(sqlite_gateway.url) as raw:
        answer = await raw.ask("GET", "/v1/responses", sqlite_gateway.headers())
    assert (answer.status, answer.json["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        ("no JSON", "invalid_json", None),
        ("[1]", "invalid_type", None),
        ('{"type": "response.create", ', "invalid_json", None),
        ("[" * 100_000, None, None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": 1}', "invalid_type", "type"),
        ('{"type": "response.cancel"}', "invalid_value", "type"),
        ('{"type": "response.create", "stream_id": "a b"}', "invalid_stream_id", "stream_id"),
        ('{"type": "response.create", "stream_id": ""}', "invalid_stream_id", "stream_id"),
        ('{"type": "response.create", "stream_id": 1}', "invalid_stream_id", "stream_id"),
        ('{"type": "response.create", "stream_id": "%s"}' % ("a" * 257), "invalid_stream_id", "stream_id"),
        ('{"type": "response.create", "stream_id": "%s"}' % ("a" * 9999), "invalid_stream_id", "stream_id"),
        ('{"type": "response.create", "model": "demo"}', "missing_required_parameter", "input"),
        ('{"type": "response.create", "model": "demo", "input": []}', "missing_required_parameter", None),
        ('{"type": "response.create", "model": "demo", "input": "x", "generate": 0}', "invalid_type", "generate"),
        (
            '{"type": "response.create", "model": "demo", "input": "x", "background": true}',
            "unsupported_parameter",
            "background",
        ),
        ('{"type": "response.create", "model": "none", "input": "x"}', "model_not_found", "model"),
        ('{"type": "response.inject", "response_id": "resp_1", "input": "x"}', "not_supported", "type"),
        (b"\x00binary", "unsupported_message_type", None),
    ],
)
async def test_a_message_that_is_refused_gets_an_error_and_the_connection_lives(
    sent: str | bytes, code: str | None, param: str | None, client: SocketClient, upstream: FakeUpstream
) -> None:
    upstream.respond = lambda request: Reply.error(400, "model_not_found") if request.json["model"] == "none" else None
    await client.connection.send(sent)
    event = await client.event()
    assert (event["type"], event["status"]) == ("error", 400)
    assert event["error"].keys() >= {"message", "type", "param", "code"}
    assert (event["error"]["type"], event["error"]["code"]) == (
        "model_not_found" if code == "model_not_found" else "invalid_request_error",
        code,
    )
    assert code == "model_not_found" or event["error"]["param"] == param
    await client.respond(stream=False)


async def test_steering_fails_in_words_that_the_sdk_knows(sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as sdk, sdk.responses.connect() as connection:
        await connection.response.steer(input="Faster.", previous_response_id="resp_1")
        event = await connection.recv()
    assert event.type == "response.steer.failed"
    assert event.error.code == "steering_not_supported"
    assert (event.steer.input, event.steer.previous_response_id) == ("Faster.", "resp_1")


async def test_the_thirty_third_lane_is_refused(client: SocketClient) -> None:
    for number in range(32):
        await client.respond(stream_id=f"lane-{number}", generate=False, store=False)
    failed = await client.turn(stream_id="one.more")
    assert (failed["status"], failed["error"]["code"]) == (400, "websocket_stream_limit_reached")
    await client.respond(stream_id="lane-0")
    await client.respond()


async def test_sixteen_responses_are_in_flight_and_the_next_waits(client: SocketClient, upstream: FakeUpstream) -> None:
    go = asyncio.Event()

    async def reply(_: Recorded) -> Reply:
        await go.wait()
        return Reply.sse(story(new_id("resp")))

    upstream.respond = reply
    for number in range(20):
        await client.create(stream_id=f"lane-{number}", store=False)
    await upstream.request(15)
    # What was sent first has been read by the time that this is answered.
    await client.connection.send("no JSON")
    assert (await client.event())["type"] == "error"
    assert len(upstream.requests) == 16
    go.set()
    ended: list[str] = []
    while len(ended) < 20:
        event = await client.event()
        if event["type"] == "response.completed":
            ended.append(event["stream_id"])
    assert set(ended) == {f"lane-{number}" for number in range(20)}


async def test_more_than_can_wait_is_not_read_until_it_can(client: SocketClient, upstream: FakeUpstream) -> None:
    for number in range(300):
        await client.create(input=f"Turn {number}.", store=False)
    for number in range(300):
        text = (await client.rest())[-1]["response"]["output"][0]["content"][0]["text"]
        assert text == f'Demo answer to "Turn {number}." (turn 1).'


async def test_a_message_of_ten_megabytes_is_a_request_like_any_other(
    client: SocketClient, upstream: FakeUpstream
) -> None:
    text = "x" * 10_000_000
    upstream.enqueue(Reply.sse(story(new_id("resp"))))
    await client.respond(input=text, store=False)
    assert upstream.requests[0].json["input"] == text


@pytest.mark.parametrize("pieces", [1, 40_000])
async def test_a_message_beyond_the_limit_closes_the_connection(gateway_with: GatewayWith, pieces: int) -> None:
    async with gateway_with(server={"max_body_bytes": 30_000}) as gateway, SocketClient.to(gateway) as client:
        await client.respond(input="x" * 20_000, store=False)
        with suppress(ConnectionClosed):
            await client.connection.send("x" * 40_000 if pieces == 1 else ["x"] * pieces)
        assert (await client.closed())[0] == 1009


async def test_a_message_may_come_in_pieces(client: SocketClient) -> None:
    text = orjson.dumps({"type": "response.create", "model": "demo", "input": "Piecé."}).decode()
    await client.connection.send([*text])
    assert 'Demo answer to "Piecé."' in (await client.rest())[-1]["response"]["output"][0]["content"][0]["text"]


@pytest.mark.slow
async def test_ten_thousand_tiny_messages_are_each_answered(client: SocketClient) -> None:
    async def send() -> None:
        for _ in range(10_000):
            await client.connection.send("{}")

    sending = asyncio.create_task(send())
    for _ in range(10_000):
        assert (await client.event())["type"] == "error"
    await sending
    await client.respond()


async def test_a_ping_is_answered(client: SocketClient) -> None:
    async with asyncio.timeout(SECONDS):
        await (await client.connection.ping())


async def test_a_message_for_which_there_is_no_room_ends_its_connection(gateway_with: GatewayWith) -> None:
    small = {"max_buffered_bytes": 1_000_000, "admission_wait_seconds": 0.05}
    async with gateway_with(memory=small) as gateway, SocketClient.to(gateway) as client:
        budget = gateway.app.state.services.registry.budget
        await client.respond(input="x" * 400_000)
        with budget.reservation("proj_other") as other:
            await other.add(900_000)
            with suppress(ConnectionClosed):
                await client.send({"type": "response.create", "model": "demo", "input": "x" * 400_000})
            code, _ = await client.closed()
            assert code == 1013
        async with asyncio.timeout(SECONDS):
            while budget.held:
                await asyncio.sleep(0.01)
