"""The stream events that the gateway itself has to understand. All others are only passed on."""

import re
from typing import Any

import msgspec

from app.wire import sse
from app.wire.body import members
from app.wire.slices import decode
from app.wire.tokens import NotJsonError

CREATED = b"response.created"
ITEM_DONE = b"response.output_item.done"
ERROR = b"error"
FAILED = b"response.failed"
TERMINAL = frozenset({b"response.completed", FAILED, b"response.incomplete"})

_UNDERSTOOD = TERMINAL | {CREATED, ITEM_DONE, ERROR}
_QUOTES_UNDERSTOOD = re.compile(b'"(?:%b)"' % b"|".join(map(re.escape, _UNDERSTOOD))).search


def kind(frame: bytes) -> bytes | None:
    """The event's type when it is one of those above, else None.

    The `event` field decides. Where upstream sends none, or one that is not the API's, the `type` in the data does:
    that is what the SDKs read.
    """
    name = sse.event_name(frame)
    if name in _UNDERSTOOD:
        return name
    if name.startswith(b"response."):
        return None
    if _QUOTES_UNDERSTOOD(frame) is None:
        return None
    named = payload(frame).get("type")
    found = named.encode(errors="replace") if isinstance(named, str) else b""
    return found if found in _UNDERSTOOD else None


def status(terminal: bytes) -> str:
    """The status of a response that ended with an event of this kind."""
    return terminal.removeprefix(b"response.").decode()


def payload(frame: bytes) -> dict[str, Any]:
    """The frame's data as a JSON object; empty when it is not one."""
    try:
        data = decode(sse.event_data(frame))
    except NotJsonError:
        return {}
    return data if isinstance(data, dict) else {}


def member(frame: bytes, name: str) -> bytes | None:
    """One member of the frame's data, as upstream wrote it; None when there is none, or the data is no JSON object.

    Nothing has looked into the value: it may not be strict JSON.
    """
    try:
        value = members(sse.event_data(frame)).get(name)
    except (msgspec.DecodeError, RecursionError):
        # The latter: nested deeper than can be split.
        return None
    return None if value is None else bytes(value)


def sequence_number(frame: bytes) -> int | None:
    """The event's sequence number, if it has one."""
    sent = member(frame, "sequence_number")
    return int(sent) if sent is not None and sent.isdigit() else None


def failed(response: bytes, number: int) -> bytes:
    """A `response.failed` frame of our own around a response object."""
    return of("response.failed", response, number)


def of(kind: str, response: bytes, number: int) -> bytes:
    """A frame of our own that says this of a response object."""
    return sse.frame(kind, b'{"type":"%b","sequence_number":%d,"response":%b}' % (kind.encode(), number, response))
