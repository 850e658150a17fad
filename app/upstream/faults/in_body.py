"""Read the fault that an answer reports in its body under a status of success: the body outranks the status."""

from typing import Any

import orjson

from app.wire.json.repair import repaired
from app.wire.responses import stream_events
from app.wire.upstream_errors import ParsedError, parse_error

_RESPONSE, _COMPLETION, _LIST = b'"response', b'"chat.completion', b'"list"'
_FAILED, _ERROR = b'"failed"', b'"error"'
# The first members of a response, a completion or a list of embeddings say that it is one.
_HEAD_BYTES = 512
_ERROR_BEGINS = (b'{"error"', b'{ "error"', b'{\n  "error"', b"[")
_FIRST_CLIENT_STATUS, _FIRST_SERVER_STATUS = 400, 500
_ASKED_FOR = ("data", "choices", "results")
_KEY_STATUSES = frozenset({401, 402, 403, 429})
_LIMITED_STATUSES = frozenset({429, 503})


def may_hold_fault(first: bytes) -> bool:
    """Tell, by its first bytes alone, whether a whole body may report a fault; a good answer begins as one.

    A good answer costs no more than this.
    """
    return (
        (first.find(_RESPONSE, 0, _HEAD_BYTES) < 0 and not _is_relayed_as_it_came(first))
        or first.find(_FAILED, 0, _HEAD_BYTES) >= 0
        or first.startswith(_ERROR_BEGINS)
    )


def _is_relayed_as_it_came(first: bytes) -> bool:
    """Tell whether a body begins as a completion or a list of embeddings, and names no error."""
    is_one = first.find(_COMPLETION, 0, _HEAD_BYTES) >= 0 or first.find(_LIST, 0, _HEAD_BYTES) >= 0
    return is_one and first.find(_ERROR, 0, _HEAD_BYTES) < 0


def fault_in_body(body: bytes) -> ParsedError | None:
    """Return the fault that a whole body reports: an error in place of a response, or a limit met at once."""
    document = _decoded(body)
    if not isinstance(document, dict):
        return parse_error(document) if isinstance(document, list) else None
    if document.get("object") == "response" or isinstance(document.get("output"), list):
        return _limit_of(document) if document.get("status") == "failed" else None
    # An object with an id, or with what was asked for, and no error is something else, whatever its title says.
    is_other = "id" in document or any(isinstance(document.get(name), list) for name in _ASKED_FOR)
    return parse_error(document) if document.get("error") or not is_other else None


def fault_in_event(frame: bytes) -> ParsedError | None:
    """Return the fault that the first event of a stream reports, unless it is the client's.

    A client's fault is passed on as upstream reported it.
    """
    event = stream_events.payload(frame)
    if isinstance(event.get("response"), dict):
        return _limit_of(event["response"])
    parsed = parse_error(event)
    if parsed is None or parsed.status is None:
        return parsed
    is_clients = _FIRST_CLIENT_STATUS <= parsed.status < _FIRST_SERVER_STATUS and parsed.status not in _KEY_STATUSES
    return None if is_clients else parsed


def _limit_of(response: dict[str, Any]) -> ParsedError | None:
    """Return the limit for which a response failed before it had any output."""
    if response.get("output"):
        return None
    parsed = parse_error(response.get("error"))
    return parsed if parsed is not None and parsed.status in _LIMITED_STATUSES else None


def _decoded(body: bytes) -> Any:
    for text in (body, repaired(body)):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
    return None
