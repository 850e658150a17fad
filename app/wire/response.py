"""The response object: what the gateway reads from it, and the few members it answers for itself."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.ids import new_id
from app.wire.body import elements, join_array, join_object, members

_ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "top_p",
    "truncation",
    "user",
)


@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What the gateway reads of a response object. `output` holds each item's bytes; `usage` is None until known."""

    id: str
    status: str
    model: str
    output: tuple[bytes, ...]
    usage: Mapping[str, Any] | None


def read(raw: bytes) -> ResponseFacts | None:
    """Read a response object; None when these bytes are not one (strict JSON, an id, output items)."""
    try:
        response = orjson.loads(raw)
        parts = members(raw) if isinstance(response, dict) else {}
    except (orjson.JSONDecodeError, RecursionError):
        # The latter: nested deeper than can be split.
        return None
    if not parts or not isinstance(response.get("id"), str) or not response["id"]:
        return None
    output = response.get("output") or []
    if not isinstance(output, list) or not all(_is_item(item) for item in output):
        return None
    usage = response.get("usage")
    return ResponseFacts(
        id=response["id"],
        status=str(response.get("status") or "completed"),
        model=str(response.get("model") or ""),
        output=tuple(elements(parts["output"])) if output else (),
        usage=usage if isinstance(usage, dict) else None,
    )


def _is_item(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str | None)


def as_asked(raw: bytes, *, store: bool, previous_response_id: str | None) -> bytes:
    """The response object with the members that say what this gateway's client asked.

    Upstream was called statelessly, so its own `store` and `previous_response_id` speak of another call. Every other
    member keeps upstream's bytes.
    """
    parts = members(raw)
    parts["store"] = orjson.dumps(store)
    parts["previous_response_id"] = orjson.dumps(previous_response_id)
    parts["conversation"] = b"null"
    parts["background"] = b"false"
    return join_object(parts)


def ended(raw: bytes, status: str, output: Sequence[bytes], error: Mapping[str, str] | None = None) -> bytes:
    """The response object as it stands when it ends without upstream's last word: `status`, the items finished."""
    parts = members(raw)
    parts["status"] = orjson.dumps(status)
    parts["output"] = join_array(output)
    parts["error"] = orjson.dumps(error)
    return join_object(parts)


def unannounced(fields: Mapping[str, Any]) -> bytes:
    """A response object for a run of which upstream never sent one, with an id of ours, echoing the request."""
    response: dict[str, Any] = {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": fields["model"],
        "output": [],
        "usage": None,
        "metadata": fields.get("metadata") or {},
        "parallel_tool_calls": fields.get("parallel_tool_calls", True),
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.get("tools") or [],
    }
    return orjson.dumps(response | {name: fields.get(name) for name in _ECHOED})
