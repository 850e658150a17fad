"""The stream events that the gateway itself has to understand. All others are only passed on."""

import re
from typing import Any

import msgspec

from app.wire import response, sse
from app.wire.body import Json, join_object, members
from app.wire.mending import mended
from app.wire.slices import decode
from app.wire.tokens import NotJsonError

CREATED = b"response.created"
ITEM_DONE = b"response.output_item.done"
ERROR = b"error"
FAILED = b"response.failed"
TERMINAL = frozenset({b"response.completed", FAILED, b"response.incomplete", b"response.done"})
FAULTS = frozenset({ERROR, FAILED})
DONE_MARK = b"[DONE]"

_UNDERSTOOD = TERMINAL | {CREATED, ITEM_DONE, ERROR}
_QUOTES_UNDERSTOOD = re.compile(b'"(?:%b)"' % b"|".join(map(re.escape, _UNDERSTOOD))).search


def kind(frame: bytes) -> bytes | None:
    """The event's type when it is one of those above, DONE_MARK for that mark, else None.

    The `event` field decides. Where upstream sends none, or one that is not the API's, the `type` in the data does:
    that is what the SDKs read.
    """
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
    """The status of a response that ended with an event of this kind; `done` where its object says which."""
    return terminal.removeprefix(b"response.").decode()


def payload(frame: bytes) -> dict[str, Any]:
    """The frame's data as a JSON object, mended if need be; empty when it is not one."""
    data = sse.event_data(frame)
    try:
        said = decode(data)
    except NotJsonError:
        try:
            said = decode(mended(data))
        except NotJsonError:
            return {}
    return said if isinstance(said, dict) else {}


def parts(frame: bytes) -> dict[str, Json]:
    """The members of the frame's data, each as upstream wrote it; none when the data is no JSON object.

    Nothing has looked into the values: they may not be strict JSON. Only half a surrogate pair is mended.
    """
    data = sse.event_data(frame)
    try:
        return members(data)
    except msgspec.DecodeError:
        try:
            return members(mended(data))
        except (msgspec.DecodeError, RecursionError):
            return {}
    except RecursionError:
        # Nested deeper than can be split.
        return {}


def member(frame: bytes, name: str) -> bytes | None:
    """One of the `parts` of a frame; None when it has none of this name."""
    value = parts(frame).get(name)
    return None if value is None else bytes(value)


def renamed(frame: bytes, body: bytes, response_id: str) -> bytes:
    """An event of ours that says what this one does, of this response object with this id."""
    event = parts(frame)
    event["response"] = Json(response.renamed(body, response_id))
    # A line break in JSON is white space, and would end the line of data.
    data = join_object(event).replace(b"\n", b" ")
    return sse.frame((sse.event_name(frame) or kind(frame) or b"message").decode(errors="replace"), data)


def sequence_number(frame: bytes) -> int | None:
    """The event's sequence number, if it has one."""
    sent = member(frame, "sequence_number")
    return int(sent) if sent is not None and sent.isdigit() else None


def failed(body: bytes, number: int) -> bytes:
    """A `response.failed` frame of our own around a response object."""
    return of("response.failed", body, number)


def of(kind: str, body: bytes, number: int) -> bytes:
    """A frame of our own that says this of a response object."""
    return sse.frame(kind, b'{"type":"%b","sequence_number":%d,"response":%b}' % (kind.encode(), number, body))
