"""A response of our own making: whole for the SDK, as an object and as a stream."""

from typing import Any

import orjson
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from app.wire.json_body import Json
from app.wire.responses.gateway_response import completed, stream
from tests.fakes.streams import events

_USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}
_ITEM = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def made() -> bytes:
    return completed(
        {"model": "asked", "metadata": {"a": "b"}}, [orjson.dumps(_ITEM)], Json(orjson.dumps(_USAGE)), "m-1"
    )


def test_the_object_is_a_completed_response() -> None:
    read = Response.model_validate_json(made())
    assert (read.status, read.model, read.metadata) == ("completed", "m-1", {"a": "b"})
    assert read.usage is not None
    assert read.usage.to_dict() == _USAGE
    assert [item.to_dict() for item in read.output] == [_ITEM]


def test_the_stream_tells_the_same_response() -> None:
    body = made()
    *frames, done = stream(body)
    assert done == b"data: [DONE]\n\n"
    told = events(b"".join(frames))
    assert [_EVENT.validate_python(event).sequence_number for event in told] == [0, 1, 2, 3, 4]
    assert told[-1]["response"] == orjson.loads(body)
    assert {event["response"]["id"] for event in told if "response" in event} == {orjson.loads(body)["id"]}
