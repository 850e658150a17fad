from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from app.demo.endpoint import answer

Ask = Callable[..., Awaitable[dict[str, Any]]]
Stream = Callable[..., Awaitable[list[dict[str, Any]]]]
Refuse = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def _body(given: Any, parameters: dict[str, Any]) -> bytes:
    return orjson.dumps({"model": "demo", "store": False, "input": given, **parameters})


@pytest.fixture
def ask() -> Ask:
    """A call that is not streamed; its answer has passed the SDK's types."""

    async def call(given: Any, **parameters: Any) -> dict[str, Any]:
        got = await answer("POST", "/responses", _body(given, parameters))
        body = b"".join([chunk async for chunk in got.chunks])
        assert (got.status, got.content_type) == (200, "application/json"), body
        response: dict[str, Any] = orjson.loads(body)
        Response.model_validate(response)
        return response

    return call


@pytest.fixture
def stream() -> Stream:
    """A streamed call; each chunk is one framed event that has passed the SDK's types."""

    async def call(given: Any, **parameters: Any) -> list[dict[str, Any]]:
        got = await answer("POST", "/responses", _body(given, {**parameters, "stream": True}))
        assert (got.status, got.content_type) == (200, "text/event-stream; charset=utf-8")
        events = []
        async for chunk in got.chunks:
            name, data, blank, rest = chunk.decode().split("\n")
            assert (blank, rest) == ("", "")
            event = orjson.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            _EVENT.validate_python(event)
            events.append(event)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        return events

    return call


@pytest.fixture
def refuse() -> Refuse:
    """A call that is refused: the status and the error object."""

    async def call(given: Any = "Hi", **parameters: Any) -> tuple[int, dict[str, Any]]:
        got = await answer("POST", "/responses", _body(given, parameters))
        error = orjson.loads(b"".join([chunk async for chunk in got.chunks]))["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        return got.status, error

    return call
