"""The demo server's entry: method, path and body in, status and bytes out. It knows no socket and no framework."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from app.demo.events import Event, events
from app.demo.request import MODEL, Request, read_request
from app.errors import ApiError, NotFoundError
from app.wire.sse import frame
from app.wire.wording import unknown_model

_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"
_MODEL = {"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "antiphon"}


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """One HTTP answer. A stream's chunks are whole events; any other body is one chunk."""

    status: int
    content_type: str
    chunks: AsyncIterator[bytes]


async def answer(method: str, path: str, body: bytes) -> DemoAnswer:
    """Answers a call; `path` is relative to the base URL (`/responses`). Errors come in OpenAI's shape."""
    try:
        return _route(method, path, body)
    except ApiError as error:
        return DemoAnswer(error.status, _JSON, _once(error.body()))


def _route(method: str, path: str, body: bytes) -> DemoAnswer:
    match method, path.strip("/").split("/"):
        case "POST", ["responses"]:
            request = read_request(body)
            if request.body.get("stream"):
                return DemoAnswer(200, _SSE, _framed(request))
            return DemoAnswer(200, _JSON, _whole(request))
        case "GET", ["models"]:
            return DemoAnswer(200, _JSON, _once(orjson.dumps({"object": "list", "data": [_MODEL]})))
        case "GET", ["models", name]:
            if name == MODEL:
                return DemoAnswer(200, _JSON, _once(orjson.dumps(_MODEL)))
            raise NotFoundError(unknown_model(name).message, code="model_not_found", param="model")
        case _:
            raise NotFoundError(f"Invalid URL ({method} /v1{path})")


async def _framed(request: Request) -> AsyncIterator[bytes]:
    async for event in _paced(request):
        yield frame(event["type"], orjson.dumps(event))


async def _whole(request: Request) -> AsyncIterator[bytes]:
    last: Event = {}
    async for event in _paced(request):
        last = event
    yield orjson.dumps(last["response"])


async def _paced(request: Request) -> AsyncIterator[Event]:
    for event in events(request):
        if "delta" in event and request.directives.delay_ms:
            await asyncio.sleep(request.directives.delay_ms / 1000)
        yield event


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
