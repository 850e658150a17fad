"""Answer the HTTP calls of the demo upstream in process: method, path and body in, status and bytes out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from app.demo.chat.completion_request import as_create_body
from app.demo.chat.embeddings import embeddings
from app.demo.create_request import MODEL, Request, read_request
from app.demo.event_sequence import Event, events
from app.errors import ApiError, NotFoundError
from app.wire.error_messages import unknown_model
from app.wire.responses.as_completion import CompletionChunks, completion_of, error_of
from app.wire.sse import frame

_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"
_MODEL = {"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "antiphon"}


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """Hold one HTTP answer. A stream's chunks are whole events; any other body is one chunk."""

    status: int
    content_type: str
    chunks: AsyncIterator[bytes]


async def answer(method: str, path: str, body: bytes) -> DemoAnswer:
    """Answer a call; `path` is relative to the base URL (`/responses`). Errors come in OpenAI's shape."""
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
        case "POST", ["chat", "completions"]:
            created, includes_usage = as_create_body(body)
            request = read_request(created)
            if request.body.get("stream"):
                return DemoAnswer(200, _SSE, _chunked(request, CompletionChunks(includes_usage=includes_usage)))
            return DemoAnswer(200, _JSON, _completed(request))
        case "POST", ["embeddings"]:
            return DemoAnswer(200, _JSON, _once(orjson.dumps(embeddings(body))))
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


async def _chunked(request: Request, chunks: CompletionChunks) -> AsyncIterator[bytes]:
    async for event in _paced(request):
        for frame_ in chunks.frames_of(event):
            yield frame_


async def _completed(request: Request) -> AsyncIterator[bytes]:
    async for body in _whole(request):
        response = orjson.loads(body)
        if response["status"] == "failed":
            yield orjson.dumps(error_of(response["error"]))
        else:
            yield orjson.dumps(completion_of(response))


async def _paced(request: Request) -> AsyncIterator[Event]:
    for event in events(request):
        if "delta" in event and request.directives.delay_ms:
            await asyncio.sleep(request.directives.delay_ms / 1000)
        yield event


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
