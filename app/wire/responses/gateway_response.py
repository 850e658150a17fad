"""Make a completed response of the gateway's own, as an object or as the frames of a stream."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.wire import sse
from app.wire.json_body import Json, join_object, members
from app.wire.responses import response_object, stream_events

_DONE = b"data: [DONE]\n\n"


def completed(
    fields: Mapping[str, Any], output: Sequence[bytes], usage: Json, model: str, service_tier: str | None = None
) -> bytes:
    """Make the response to a request of these decoded members, with this output, model and tier (if known)."""
    response = members(response_object.ended(response_object.placeholder_response(fields), "completed", output))
    added = {"completed_at": Json(b"%d" % time.time()), "model": Json(orjson.dumps(model)), "usage": usage}
    if service_tier is not None:
        added["service_tier"] = Json(orjson.dumps(service_tier))
    return join_object({**response, **added})


def stream(body: bytes) -> Iterator[bytes]:
    """Make the frames that stream this response: begun, each item whole, completed."""
    facts = response_object.read(body)
    assert facts is not None  # noqa: S101 - it is one of ours
    begun = response_object.ended(join_object({**facts.members, "usage": Json(b"null")}), "in_progress", [])
    yield stream_events.response_frame("response.created", begun, 0)
    yield stream_events.response_frame("response.in_progress", begun, 1)
    number = 2
    for place, item in enumerate(facts.output):
        for kind in ("response.output_item.added", "response.output_item.done"):
            event = b'{"type":"%b","sequence_number":%d,"output_index":%d,"item":%b}'
            yield sse.frame(kind, event % (kind.encode(), number, place, item))
            number += 1
    yield stream_events.response_frame("response.completed", body, number)
    yield _DONE
