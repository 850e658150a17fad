"""Recognise the few stream events that the gateway has to understand, read their data, and write events of its own."""

import re
from typing import Any

import msgspec

from app.wire import sse
from app.wire.json.repair import repaired
from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError
from app.wire.json_body import Json, join_object, members
from app.wire.responses import response_object

CREATED = b"response.created"
ITEM_DONE = b"response.output_item.done"
ERROR = b"error"
FAILED = b"response.failed"
TERMINAL = frozenset({b"response.completed", FAILED, b"response.incomplete", b"response.done"})
FAULTS = frozenset({ERROR, FAILED})
DONE_MARK = b"[DONE]"

# Nearly every event of a stream begins like this.
_DELTA = b"event: response.output_text.delta\n"
_UNDERSTOOD = TERMINAL | {CREATED, ITEM_DONE, ERROR}
_QUOTES_UNDERSTOOD = re.compile(b'"(?:%b)"' % b"|".join(map(re.escape, _UNDERSTOOD))).search


def kind(frame: bytes) -> bytes | None:
    """Return the event's type when it is one of those above, DONE_MARK for that mark, else None.

    The `event` field decides. Where upstream sends none, or one that is not the API's, the `type` in the data does, as
    it does for the SDKs.
    """
    if frame.startswith(_DELTA):
        return None
    name = sse.event_name(frame)
    if name in _UNDERSTOOD:
        return name
    if name.startswith(b"response."):
        return None
    if _QUOTES_UNDERSTOOD(frame) is None:
        is_done = frame.find(DONE_MARK) >= 0 and sse.event_data(frame).strip() == DONE_MARK
        return DONE_MARK if is_done else None
    named = payload(frame).get("type")
    found = named.encode(errors="replace") if isinstance(named, str) else b""
    return found if found in _UNDERSTOOD else None


def status(terminal: bytes) -> str:
    """Return the status of a response that ended with this kind of event; `done` where its object says which."""
    return terminal.removeprefix(b"response.").decode()


def payload(frame: bytes) -> dict[str, Any]:
    """Decode the frame's data as a JSON object, repaired if need be; empty when it is not one."""
    data = sse.event_data(frame)
    try:
        document = decode(data)
    except NotJsonError:
        try:
            document = decode(repaired(data))
        except NotJsonError:
            return {}
    return document if isinstance(document, dict) else {}


def parts(frame: bytes) -> dict[str, Json]:
    """Split the frame's data into members, each as upstream wrote it; empty when the data is no JSON object.

    The values are not checked: they may not be strict JSON. Only half a surrogate pair is repaired.
    """
    data = sse.event_data(frame)
    try:
        return members(data)
    except msgspec.DecodeError:
        try:
            return members(repaired(data))
        except (msgspec.DecodeError, RecursionError):
            return {}
    except RecursionError:
        # Nested deeper than can be split.
        return {}


def member(frame: bytes, name: str) -> bytes | None:
    """Return one of the `parts` of a frame; None when there is none of this name."""
    value = parts(frame).get(name)
    return None if value is None else bytes(value)


def renamed(frame: bytes, body: bytes, response_id: str) -> bytes:
    """Write an event like this one around this response object, with this id."""
    event = parts(frame)
    event["response"] = Json(response_object.renamed(body, response_id))
    # A line break in JSON is white space, and would end the line of data.
    data = join_object(event).replace(b"\n", b" ")
    return sse.frame((sse.event_name(frame) or kind(frame) or b"message").decode(errors="replace"), data)


def sequence_number(frame: bytes) -> int | None:
    """Return the event's sequence number, if it has one."""
    sent = member(frame, "sequence_number")
    return int(sent) if sent is not None and sent.isdigit() else None


def failed(body: bytes, number: int) -> bytes:
    """Make a `response.failed` frame around a response object."""
    return response_frame("response.failed", body, number)


def response_frame(kind: str, body: bytes, number: int) -> bytes:
    """Make a frame of this kind around a response object."""
    return sse.frame(kind, b'{"type":"%b","sequence_number":%d,"response":%b}' % (kind.encode(), number, body))
