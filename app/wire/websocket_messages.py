"""Read the messages of WebSocket mode, and write answers, events and errors as one text message each.

Must not know the socket that they come and go by.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from app.errors import ApiError, InvalidRequestError
from app.wire import error_messages, sse
from app.wire.json_body import Json, members
from app.wire.requests import value_checks
from app.wire.requests.create import CreateRequest, IsStrict, check_create_request, read_members, strictly
from app.wire.responses import response_object, stream_events

_CREATE, _STEER, _INJECT = "response.create", "response.steer", "response.inject"
_PROCESSED = "response.processed"
_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
# The longest JSON text of a member that is read before the message's turn; a character takes six bytes at most.
_LONGEST_READ = 4096
# Members of the message, not of the create call in it. Every answer is a stream here, whatever `stream` says.
_ENVELOPE = ("type", "stream_id", "generate", "stream")
_ERROR_MEMBERS = ("code", "message", "param")


@dataclass(slots=True, eq=False)
class ClientMessage:
    """Hold what is read of a message before its turn: its lane, and the response that it continues."""

    raw: bytes
    type: str
    stream_id: str | None
    previous_response_id: str | None

    @property
    def is_receipt(self) -> bool:
        """Tell whether the client only acknowledges a response: nothing follows from it."""
        return self.type == _PROCESSED


@dataclass(frozen=True, slots=True)
class CreateCall:
    """Hold a valid `response.create`. Without `generates` it is a warm-up: a turn that asks for no answer."""

    request: CreateRequest
    generates: bool


def read_message(raw: bytes, max_depth: int) -> ClientMessage:
    """Read a message's envelope, at the cost of a scan. InvalidRequestError names the first fault found so far."""
    try:
        parts = members(raw)
    except (msgspec.DecodeError, RecursionError):
        # This decoder raises the API's own error.
        read_members(raw, max_depth)
        raise
    stream_id = _text(parts, "stream_id")
    if stream_id is not None and not (isinstance(stream_id, str) and _STREAM_ID.fullmatch(stream_id)):
        raise InvalidRequestError(
            "Invalid 'stream_id': expected a string of 1 to 256 letters, digits, '_', '.' or '-'.",
            code="invalid_stream_id",
            param="stream_id",
        )
    kind, previous = _text(parts, "type"), _text(parts, "previous_response_id")
    if "type" not in parts:
        raise error_messages.missing("type")
    value_checks.enum(_CREATE, _STEER, _INJECT, _PROCESSED)(kind, "type")
    return ClientMessage(raw, str(kind), stream_id, previous if isinstance(previous, str) else None)


def read_call(raw: bytes, max_depth: int, is_strict: IsStrict = strictly, *, is_beta: bool = False) -> CreateCall:
    """Read and check the create call in a message, as the body of a POST is. Raises InvalidRequestError."""
    values, parts, is_large = read_members(raw, max_depth)
    generate = values.get("generate")
    if generate is not None:
        value_checks.boolean(generate, "generate")
    for name in _ENVELOPE:
        values.pop(name, None)
        parts.pop(name, None)
    if values.get("background"):
        raise error_messages.unsupported("background", "over WebSocket")
    values["stream"], parts["stream"] = True, Json(b"true")
    options = values.get("prompt_cache_options")
    prewarms = isinstance(options, dict) and options.get("prewarm") is True
    generates = generate is not False and not prewarms
    request = check_create_request(values, parts, is_large=is_large, is_strict=is_strict, generates=generates)
    request.is_beta = is_beta
    return CreateCall(request, generates)


def unexpected_message_error(message: ClientMessage) -> bytes | None:
    """Make the error for a message type that this gateway does not support; None for `response.create`."""
    if message.type == _CREATE:
        return None
    sentence = f"'{message.type}' is not supported by this gateway."
    if message.type == _INJECT:
        return of_error(InvalidRequestError(sentence, code="not_supported", param="type"), message.stream_id)
    parts = members(message.raw)
    steer = {name: parts[name] for name in ("input", "previous_response_id") if name in parts}
    error = {"code": "steering_not_supported", "message": sentence, "type": "invalid_request_error"}
    event = {"type": "response.steer.failed", "sequence_number": 0, "error": error, "steer": steer}
    return _in_lane(msgspec.json.encode(event), message.stream_id)


def of_error(error: ApiError, stream_id: str | None) -> bytes:
    """Write an error: nested as in the body of an HTTP answer, with that answer's status and headers."""
    try:
        error_body = orjson.loads(error.body()).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        error_body = None
    if not isinstance(error_body, dict):
        # Upstream's own answer, in a shape that clients do not know.
        error_body = {"type": error.type, "code": error.code, "message": error.message, "param": None}
    error_body = {**error_body, "headers": error.answer_headers()}
    return _in_lane(orjson.dumps({"type": "error", "status": error.status, "error": error_body}), stream_id)


def of_frame(frame: bytes, stream_id: str | None) -> bytes | None:
    """Write an event of a stream: its data as it came; None for a comment and `[DONE]`.

    Two things may change: invalid UTF-8 is replaced, and an `error` is nested.
    """
    data = sse.event_data(frame)
    if not data.lstrip().startswith(b"{"):
        return None
    if stream_events.kind(frame) == stream_events.ERROR:
        data = _as_nested_error(stream_events.payload(frame)) or data
    if not data.isascii():
        data = data.decode(errors="replace").encode()
    return _in_lane(data, stream_id)


def warm_up(body: bytes) -> Iterator[bytes]:
    """Make the events, as frames, of a turn that asked for no answer: begun, and at once completed as this response."""
    begun = response_object.ended(body, "in_progress", [])
    for number, (kind, state) in enumerate(
        (("response.created", begun), ("response.in_progress", begun), ("response.completed", body))
    ):
        yield stream_events.response_frame(kind, state, number)


def _text(parts: Mapping[str, Json], name: str) -> Any:
    """Decode a member that should be a short string; a member that cannot be one counts as a list."""
    raw = bytes(memoryview(parts[name])[: _LONGEST_READ + 1]) if name in parts else b"null"
    try:
        return orjson.loads(raw) if len(raw) <= _LONGEST_READ else []
    except orjson.JSONDecodeError:
        return []


def _as_nested_error(event: Mapping[str, Any]) -> bytes | None:
    """Write an `error` event as it is over WebSocket; None when it is like that already."""
    if isinstance(event.get("error"), dict) or not event:
        return None
    error_body = {name: event.get(name) for name in _ERROR_MEMBERS}
    limited = str(error_body["code"]).startswith("rate_limit")
    error_body["type"], status = ("rate_limit_error", 429) if limited else ("server_error", 500)
    kept = {name: value for name, value in event.items() if name not in _ERROR_MEMBERS}
    return orjson.dumps({**kept, "status": status, "error": error_body})


def _in_lane(data: bytes, stream_id: str | None) -> bytes:
    if stream_id is None:
        return data
    _, _, rest = data.partition(b"{")
    return b'{"stream_id":"%b"%b%b' % (stream_id.encode(), b"" if rest.lstrip().startswith(b"}") else b",", rest)
