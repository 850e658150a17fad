from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.demo.endpoint import answer
from app.settings.upstreams import UpstreamSettings
from app.upstream.transport import Answer, InProcessTransport, Transport, UpstreamRequest
from tests.fakes.httpx_transport import HttpxTransport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import NetworkOf, read_all, rig, upstream_settings


@dataclass(frozen=True)
class Spoken:
    status: int
    content_type: str
    chunks: AsyncIterator[bytes]


class Closing:
    """Chunks that know whether they were closed."""

    def __init__(self) -> None:
        self.closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            yield b'{"object":"response",'
            for number in range(1000):
                yield b"%d\n" % number
        finally:
            self.closed = True


async def get(transport: Transport, url: str) -> Answer:
    return await transport.prepare(UpstreamRequest("GET", httpx.URL(url), httpx.Headers(), 1.0))(b"", [])


async def test_a_model_in_this_process_is_called_like_any_other() -> None:
    heard: list[tuple[str, str, bytes]] = []

    async def speak(method: str, path: str, body: bytes) -> Spoken:
        heard.append((method, path, body))
        return Spoken(200, "text/plain; charset=utf-8", Closing().chunks())

    model = rig(InProcessTransport(speak), UpstreamSettings(name="demo", base_url="http://demo"))
    opened = await model.open(b"x" * 600_000)
    received = await read_all(opened)
    await opened.aclose()
    assert received.startswith(b'{"object":"response",0\n1\n')
    assert received.endswith(b"999\n")
    assert not opened.is_stream
    assert heard == [("POST", "/responses", b"x" * 600_000)]


async def test_closing_an_answer_closes_the_models_chunks() -> None:
    model = Closing()

    async def speak(*_: object) -> Spoken:
        return Spoken(200, "text/plain", model.chunks())

    opened = await rig(InProcessTransport(speak), UpstreamSettings(name="demo", base_url="http://demo")).open()
    assert not model.closed
    await opened.aclose()
    assert model.closed


async def test_chunks_that_cannot_be_closed_are_no_obstacle() -> None:
    class Once:
        def __init__(self) -> None:
            self.left = [b"one"]

        def __aiter__(self) -> "Once":
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    async def speak(*_: object) -> Spoken:
        return Spoken(200, "text/plain", Once())

    assert await rig(InProcessTransport(speak), UpstreamSettings(name="demo", base_url="http://demo")).read() == b"one"


async def test_any_transport_of_httpx_carries_a_call() -> None:
    asked: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"{}")

    model = rig(HttpxTransport(httpx.MockTransport(respond)), upstream_settings("http://a.test/v1"))
    assert await model.read(b"[1]", headers={"openai-beta": "x", "cookie": "y"}) == b"{}"
    (request,) = asked
    assert (request.method, str(request.url), request.content) == ("POST", "http://a.test/v1/responses", b"[1]")
    assert (request.headers["host"], request.headers["content-length"]) == ("a.test", "3")
    assert (request.headers["openai-beta"], "cookie" in request.headers) == ("x", False)


async def test_the_demo_model_answers_in_process() -> None:
    demo = rig(InProcessTransport(answer), UpstreamSettings(name="demo", base_url="http://demo"))
    body = b'{"model":"demo","input":"hi","stream":true,"store":false}'
    assert b"event: response.completed\n" in await demo.read(body)


async def test_a_proxy_named_by_the_environment_is_used_with_its_credentials(
    upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", upstream.origin.replace("//", "//user:pass@"))
    monkeypatch.setenv("no_proxy", "inside.test")
    upstream.enqueue(Reply.json(200, {}))
    async with network(10) as transport:
        assert await rig(transport, upstream_settings("http://outside.test/v1")).read() == b"{}"
        request = upstream.requests[0]
        assert request.path == "http://outside.test/v1/responses"
        assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        assert request.headers["authorization"].startswith("Bearer ")
        with pytest.raises(httpx.TransportError):
            await get(transport, "http://inside.test")
    assert len(upstream.requests) == 1


async def test_a_netrc_file_sets_no_authorization(
    upstream: FakeUpstream, network: NetworkOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    upstream.enqueue(Reply.json(200, {}), Reply.json(200, {}))
    async with network(10) as transport:
        await rig(transport, UpstreamSettings(name="local", base_url=upstream.url)).read()
        await rig(transport, upstream_settings(upstream.url)).read()
    assert "authorization" not in upstream.requests[0].headers
    assert upstream.requests[1].headers["authorization"].startswith("Bearer ")


async def test_closing_the_transport_closes_its_connections(upstream: FakeUpstream, network: NetworkOf) -> None:
    upstream.enqueue(Reply.json(200, {}))
    async with network(10) as transport:
        answer = await get(transport, upstream.url)
        assert await read_all(answer.body) == b"{}"
        await answer.body.aclose()
        assert upstream.open_connections == 1
    await upstream.wait_until_idle()
