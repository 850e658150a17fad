"""What upstream says went wrong reaches the client in OpenAI's shape, on every surface."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Act, Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import events, frame, story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

_SAID = "The prompt is too long."
_SHAPES: dict[str, Reply] = {
    "plain text": Reply.body(400, _SAID.encode(), content_type="text/plain"),
    "a list": Reply.json(400, [{"error": {"code": 400, "message": _SAID, "status": "INVALID_ARGUMENT"}}]),
    "FastAPI's": Reply.json(422, {"detail": [{"loc": ["body", "tools", 0], "msg": _SAID, "type": "value_error"}]}),
    "an error in an error": Reply.json(400, {"error": {"error": {"message": _SAID}}}),
    "errors": Reply.json(400, {"errors": [{"message": _SAID}]}),
    "xAI's": Reply.json(400, {"code": "invalid-argument", "error": _SAID}),
    "an error in a 200": Reply.json(200, {"error": {"message": _SAID, "code": 400}}),
    "of a server": Reply.json(500, {"detail": _SAID}),
}


@pytest.fixture
async def http(sqlite_gateway: LiveGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(headers=sqlite_gateway.headers(), timeout=60) as http:
        yield http


async def post(gateway: LiveGateway, http: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    return await http.post(f"{gateway.base_url}/responses", json={"model": "m", "input": "Hi.", **body})


@pytest.mark.parametrize("name", list(_SHAPES))
async def test_the_words_of_a_refusal_are_told(
    sqlite_gateway: LiveGateway, http: httpx2.AsyncClient, upstream: FakeUpstream, name: str
) -> None:
    upstream.respond = lambda _: _SHAPES[name]
    for stream in (False, True):
        answer = await post(sqlite_gateway, http, stream=stream)
        error = answer.json()["error"]
        assert answer.status_code >= 400
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"] == _SAID
        assert error["code"] is None or isinstance(error["code"], str)
    async with SocketClient.to(sqlite_gateway) as socket:
        told = await socket.turn()
    assert (told["type"], told["error"]["message"]) == ("error", _SAID)
    async with BackgroundClient.to(sqlite_gateway.url, sqlite_gateway.key) as client:
        ended = await client.ended(await client.order())
    assert ended["status"] == "failed"
    assert _SAID in ended["error"]["message"]


async def test_the_code_beside_a_text_is_handed_on(
    sqlite_gateway: LiveGateway, http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(_SHAPES["xAI's"])
    assert (await post(sqlite_gateway, http)).json()["error"]["code"] == "invalid-argument"


_FLAT = frame("error", 1, code="rate_limit_exceeded", message=_SAID, param=None)
_NESTED = frame(
    "error", 1, error={"type": "invalid_request_error", "code": "context_length_exceeded", "message": _SAID}
)
_BEGUN = story("resp_begun")[:3]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([_FLAT], "rate_limit_exceeded"),
        ([_NESTED], "invalid_prompt"),
        ([*_BEGUN, _FLAT], "rate_limit_exceeded"),
        ([*_BEGUN, _NESTED], "invalid_prompt"),
        ([*_BEGUN, _NESTED, b"data: [DONE]\n\n"], "invalid_prompt"),
    ],
    ids=["flat", "nested", "flat, begun", "nested, begun", "nested, done"],
)
async def test_the_words_of_an_error_event_are_kept(
    sqlite_gateway: LiveGateway, http: httpx2.AsyncClient, upstream: FakeUpstream, frames: list[bytes], code: str
) -> None:
    upstream.respond = lambda _: Reply.sse(frames)
    async with BackgroundClient.to(sqlite_gateway.url, sqlite_gateway.key) as client:
        ended = await client.ended(await client.order(stream=True))
    assert (ended["status"], ended["error"]["code"]) == ("failed", code)
    assert _SAID in ended["error"]["message"]
    if len(frames) > 1:
        assert (await post(sqlite_gateway, http, stream=True)).content == b"".join(frames)
        kept = (await http.get(f"{sqlite_gateway.base_url}/responses/resp_begun")).json()
        assert (kept["status"], kept["error"]["code"]) == ("failed", code)
        assert _SAID in kept["error"]["message"]


@pytest.mark.parametrize("frames", [[_NESTED], [*_BEGUN, _NESTED]], ids=["at once", "begun"])
async def test_a_client_that_asked_for_a_body_is_told_what_an_event_said(
    sqlite_gateway: LiveGateway, http: httpx2.AsyncClient, upstream: FakeUpstream, frames: list[bytes]
) -> None:
    upstream.enqueue(Reply.sse(frames))
    answer = await post(sqlite_gateway, http)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
    assert answer.json()["error"] == {
        "message": _SAID,
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
    }


async def test_a_stream_that_broke_off_is_an_error_for_a_client_that_asked_for_a_body(
    sqlite_gateway: LiveGateway, http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse(_BEGUN, then=Act.CLOSE))
    answer = await post(sqlite_gateway, http)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_disconnected")


@pytest.mark.parametrize("is_apart", [True, False])
@pytest.mark.parametrize("rest", [b"data: [DONE]\n\n", b"data: [DONE]"])
async def test_a_failure_comes_before_the_mark_of_the_end(
    sqlite_gateway: LiveGateway, http: httpx2.AsyncClient, upstream: FakeUpstream, rest: bytes, is_apart: bool
) -> None:
    upstream.enqueue(Reply.sse([*_BEGUN, rest] if is_apart else [b"".join(_BEGUN) + rest]))
    heard = (await post(sqlite_gateway, http, stream=True)).content
    begun = b"".join(_BEGUN)
    assert heard.startswith(begun)
    assert heard.endswith(rest)
    (failed,) = events(heard[len(begun) : -len(rest)])
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    kept = (await http.get(f"{sqlite_gateway.base_url}/responses/resp_begun")).json()
    assert kept["status"] == "failed"
    assert orjson.dumps(kept["error"]) == orjson.dumps(failed["response"]["error"])
