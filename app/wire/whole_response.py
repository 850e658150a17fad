"""A completed response of the gateway's own making: its object, and the events that tell it as a stream."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.wire import events, response, sse
from app.wire.body import Json, join_object, members

_DONE = b"data: [DONE]\n\n"


def completed(
    fields: Mapping[str, Any], output: Sequence[bytes], usage: Json, model: str, service_tier: str | None = None
) -> bytes:
    """The response to the request of these decoded members, with this output, by this model in this tier, if known."""
    made = members(response.ended(response.unannounced(fields), "completed", output))
    said = {"completed_at": Json(b"%d" % time.time()), "model": Json(orjson.dumps(model)), "usage": usage}
    if service_tier is not None:
        said["service_tier"] = Json(orjson.dumps(service_tier))
    return join_object({**made, **said})


def stream(body: bytes) -> Iterator[bytes]:
    """The frames that tell this response: begun, each item whole, completed."""
    facts = response.read(body)
    assert facts is not None  # noqa: S101 - it is one of ours
    begun = response.ended(join_object({**facts.members, "usage": Json(b"null")}), "in_progress", [])
    yield events.of("response.created", begun, 0)
    yield events.of("response.in_progress", begun, 1)
    number = 2
    for place, item in enumerate(facts.output):
        for kind in ("response.output_item.added", "response.output_item.done"):
            event = b'{"type":"%b","sequence_number":%d,"output_index":%d,"item":%b}'
            yield sse.frame(kind, event % (kind.encode(), number, place, item))
            number += 1
    yield events.of("response.completed", body, number)
    yield _DONE
