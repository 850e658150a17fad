"""Read the fault that an answer of success tells in its body: what it says outranks its status."""

from typing import Any

import orjson

from app.wire import events
from app.wire.error_words import ErrorWords, words_of
from app.wire.mending import mended

_RESPONSE, _FAILED = b'"response', b'"failed"'
# A response says what it is in its first members.
_HEAD_BYTES = 512
_ERROR_BEGINS = (b'{"error"', b'{ "error"', b'{\n  "error"', b"[")
_FIRST_CLIENT_STATUS, _FIRST_SERVER_STATUS = 400, 500
_KEY_STATUSES = frozenset({401, 402, 403, 429})
_LIMITED_STATUSES = frozenset({429, 503})


def may_tell_fault(first: bytes) -> bool:
    """Whether a whole body that begins with these bytes may tell a fault; a response begins as one.

    This is all that it costs a good answer.
    """
    return (
        first.find(_RESPONSE, 0, _HEAD_BYTES) < 0
        or first.find(_FAILED, 0, _HEAD_BYTES) >= 0
        or first.startswith(_ERROR_BEGINS)
    )


def told_in_body(body: bytes) -> ErrorWords | None:
    """The fault that a whole body tells: an error in place of a response, or a response that met a limit at once."""
    said = _decoded(body)
    if not isinstance(said, dict):
        return words_of(said) if isinstance(said, list) else None
    if said.get("object") == "response" or isinstance(said.get("output"), list):
        return _limit_of(said) if said.get("status") == "failed" else None
    # What has an id and no error is something else, whatever it calls its title.
    return words_of(said) if said.get("error") or "id" not in said else None


def told_in_event(frame: bytes) -> ErrorWords | None:
    """The fault that the first event of a stream tells, where it is not the client's.

    What is the client's fault is passed on as upstream said it.
    """
    event = events.payload(frame)
    if isinstance(event.get("response"), dict):
        return _limit_of(event["response"])
    words = words_of(event)
    if words is None or words.status is None:
        return words
    is_clients = _FIRST_CLIENT_STATUS <= words.status < _FIRST_SERVER_STATUS and words.status not in _KEY_STATUSES
    return None if is_clients else words


def _limit_of(response: dict[str, Any]) -> ErrorWords | None:
    """The limit for which a response that failed had said nothing."""
    if response.get("output"):
        return None
    words = words_of(response.get("error"))
    return words if words is not None and words.status in _LIMITED_STATUSES else None


def _decoded(body: bytes) -> Any:
    for text in (body, mended(body)):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
    return None
