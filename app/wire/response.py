"""The response object: what the gateway reads from it, and the few members it answers for itself."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.ids import new_id
from app.wire.body import Json, elements, join_array, join_object, members

_NULL, _TRUE, _FALSE = Json(b"null"), Json(b"true"), Json(b"false")
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


@dataclass(slots=True)
class ResponseFacts:
    """What the gateway reads of a response object; `usage` is None until known.

    `members` are its values as sent, `items` the output array among them, None when it is empty.
    """

    id: str
    status: str
    model: str
    usage: Mapping[str, Any] | None
    members: dict[str, Json]
    items: Json | None

    @property
    def output(self) -> list[bytes]:
        """Each output item's bytes."""
        return [] if self.items is None else elements(self.items)

    @property
    def error_code(self) -> str | None:
        """The code of the error that a failed response has."""
        error = orjson.loads(bytes(self.members.get("error", _NULL))) if self.status == "failed" else None
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) else None

    def as_asked(
        self,
        *,
        store: bool,
        previous_response_id: str | None,
        conversation_id: str | None = None,
        background: bool = False,
        background_id: str | None = None,
    ) -> bytes:
        """The response object with the members that say what this gateway's client asked.

        Upstream was called statelessly, so its own `store` and `previous_response_id` speak of another call. Every
        other member keeps upstream's bytes, but for the id of one in the background, which was given before upstream
        was called.
        """
        previous = _NULL if previous_response_id is None else Json(orjson.dumps(previous_response_id))
        conversation = _NULL if conversation_id is None else Json(orjson.dumps({"id": conversation_id}))
        asked = {
            "store": _TRUE if store else _FALSE,
            "previous_response_id": previous,
            "conversation": conversation,
            "background": _TRUE if background else _FALSE,
        }
        if background_id is not None:
            asked["id"] = Json(orjson.dumps(background_id))
        return join_object({**self.members, **asked})


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
        usage=usage if isinstance(usage, dict) else None,
        members=parts,
        items=parts["output"] if output else None,
    )


def text_of(facts: ResponseFacts) -> str:
    """What the model has said in a response."""
    messages = [item for item in map(orjson.loads, facts.output) if item.get("type") == "message"]
    parts = [part for message in messages for part in message.get("content") or () if isinstance(part, Mapping)]
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    return "".join([text for text in texts if isinstance(text, str)])


def _is_item(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str | None)


def ended(raw: bytes, status: str, output: Sequence[bytes], error: Mapping[str, str] | None = None) -> bytes:
    """The response object as it stands when it ends without upstream's last word: `status`, the items finished."""
    parts = members(raw)
    parts["status"] = Json(orjson.dumps(status))
    parts["output"] = Json(join_array(output))
    parts["error"] = Json(orjson.dumps(error))
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
