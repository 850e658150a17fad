"""The forms in which clients send requests: compressed, without a body, to a beta; and a deletion's answer."""

import orjson
import pytest

from tests.fakes.background import BackgroundClient
from tests.fakes.compressed import BOTH, Pack
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_http import Answer, RawClient, chunked
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

MIB = 1024 * 1024
BETA = {"openai-beta": "responses_multi_agent=v1"}


async def send(gateway: LiveGateway, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    async with RawClient.to(gateway.url) as client:
        return await client.ask("POST", path, {**gateway.headers(), **headers}, body)


@BOTH
async def test_a_compressed_body_is_sent_on_as_what_it_was(
    encoding: str, pack: Pack, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    for text in ("Hello.", "x" * (3 * MIB)):
        body = pack(orjson.dumps({"model": "demo", "input": [{"role": "user", "content": text}], "store": False}))
        for framing, framed in ({}, body), ({"transfer-encoding": "chunked"}, chunked(body)):
            headers = {"content-encoding": encoding, **framing}
            assert (await send(sqlite_gateway, "/v1/responses", framed, headers)).status == 200
            assert upstream.requests[-1].json["input"] == [{"role": "user", "content": text}]
            assert "content-encoding" not in upstream.requests[-1].headers


@BOTH
async def test_every_endpoint_takes_compressed_bodies(encoding: str, pack: Pack, sqlite_gateway: LiveGateway) -> None:
    told = {"content-encoding": encoding}
    metadata = pack(b'{"metadata": {"a": "b"}}')
    made = await send(sqlite_gateway, "/v1/conversations", metadata, told)
    assert (made.status, made.json["metadata"]) == (200, {"a": "b"})
    path = f"/v1/conversations/{made.json['id']}"
    assert (await send(sqlite_gateway, path, metadata, told)).status == 200
    items = pack(b'{"items": [{"role": "user", "content": "x"}]}')
    assert (await send(sqlite_gateway, f"{path}/items", items, told)).status == 200
    counted = pack(b'{"model": "demo", "input": "Hello."}')
    assert (await send(sqlite_gateway, "/v1/responses/input_tokens", counted, told)).status == 200


@BOTH
async def test_a_small_body_that_becomes_large_is_refused(
    encoding: str, pack: Pack, sqlite_url: str, upstream: FakeUpstream
) -> None:
    upstreams = [upstream_settings(upstream.url, "sk-one")]
    async with running_gateway(sqlite_url, upstreams, server={"max_body_bytes": MIB}) as gateway:
        body = b'{"model": "demo", "input": "Hello."}'
        for size, status in ((MIB, 200), (MIB + 1, 413), (64 * MIB, 413)):
            packed = pack(body + b" " * (size - len(body)))
            assert len(packed) < MIB // 2
            assert (await send(gateway, "/v1/responses", packed, {"content-encoding": encoding})).status == status
        assert gateway.app.state.services.registry.budget.held == 0


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}], ids=["nothing said", "JSON"])
async def test_a_conversation_is_made_without_a_body(headers: dict[str, str], sqlite_gateway: LiveGateway) -> None:
    key = {"authorization": f"Bearer {sqlite_gateway.key}"}
    async with RawClient.to(sqlite_gateway.url) as client:
        for length in ({}, {"content-length": "0"}):
            made = await client.ask("POST", "/v1/conversations", {**key, **headers, **length})
            assert (made.status, made.json["object"], made.json["metadata"]) == (200, "conversation", {})
        told = await client.ask("POST", "/v1/responses", {**key, **headers})
        assert (told.status, told.json["error"]["code"]) == (400, "invalid_json")
        # What has a body has to say what that is.
        told = await client.ask("POST", "/v1/conversations", key, b"{}")
        assert (told.status, told.json["error"]["code"]) == (415, "unsupported_content_type")


async def test_a_deleted_response_is_told_as_openai_tells_it(sqlite_gateway: LiveGateway) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        made = await client.ask("POST", "/v1/responses", sqlite_gateway.headers(), b'{"model":"demo","input":"Hi."}')
        told = await client.ask("DELETE", f"/v1/responses/{made.json['id']}", sqlite_gateway.headers())
    assert told.json == {"id": made.json["id"], "object": "response.deleted", "deleted": True}


@pytest.mark.parametrize("surface", ["JSON", "stream", "background", "socket", "compact", "input_tokens"])
async def test_a_call_of_the_beta_reaches_upstreams_beta(surface: str, sqlite_url: str, upstream: FakeUpstream) -> None:
    upstreams = [upstream_settings(upstream.url, "sk-one", endpoints=("compact", "input_tokens"))]
    async with running_gateway(sqlite_url, upstreams) as gateway:
        body = {"model": "demo", "input": "Hello!", "stream": surface == "stream"}
        path = f"/v1/responses/{surface}" if surface in {"compact", "input_tokens"} else "/v1/responses"
        if surface == "socket":
            headers = {**gateway.headers(), **BETA}
            upstream.respond = lambda _: Reply.sse(story("resp_1"))
            async with SocketClient.to(gateway, f"{path}?beta=true", additional_headers=headers) as socket:
                await socket.respond()
        elif surface == "background":
            made = await send(gateway, f"{path}?beta=true", orjson.dumps({**body, "background": True}), BETA)
            async with BackgroundClient.to(gateway.url, gateway.key) as client:
                await client.ended(made.json["id"])
        else:
            upstream.respond = (lambda _: Reply.json(200, {"object": "any"})) if surface in path else None
            await send(gateway, f"{path}?beta=true", orjson.dumps(body), BETA)
        beyond = path.removeprefix("/v1/responses")
        assert upstream.requests[-1].path == f"/v1/responses{beyond}?beta=true"
        assert upstream.requests[-1].headers["openai-beta"] == BETA["openai-beta"]
        upstream.respond = None
        await send(gateway, "/v1/responses", orjson.dumps(body | {"stream": False}), {})
        assert upstream.requests[-1].path == "/v1/responses"


@pytest.mark.parametrize(
    "query", ["beta=false", "beta=true%26x=1", "x=beta=true", "api_base=http://127.0.0.1:1", "a&b"]
)
async def test_nothing_else_of_a_query_goes_upstream(
    query: str, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    answer = await send(sqlite_gateway, f"/v1/responses?{query}", b'{"model":"demo","input":"Hi."}', {})
    assert answer.status == 200
    assert [request.path for request in upstream.requests] == ["/v1/responses"]
