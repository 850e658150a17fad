"""The objects that calls under /v1 return, as JSON Schemas.

What upstream made is relayed as it is: of such objects the schemas say what every upstream sends and what the gateway
itself answers for, and members beside those pass.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from app.api.openapi.operation import NULL, Schema, described, nullable, object_with, one_of, ref
from app.api.v1.usage import OWN
from app.state.limit_windows import Unit, Whose
from app.wire.responses.response_object import STATUSES

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SECONDS: Schema = {"type": "integer", "description": "Unix seconds."}
_ANY: Schema = {}
_ASKED: Mapping[str, Schema] = MappingProxyType(
    {
        "instructions": _ANY,
        "max_output_tokens": {"type": ["integer", "null"]},
        "parallel_tool_calls": {"type": ["boolean", "null"]},
        "reasoning": nullable(ref("CreateReasoning")),
        "temperature": {"type": ["number", "null"]},
        "text": nullable(ref("CreateText")),
        "tool_choice": nullable(ref("CreateToolChoice")),
        "top_p": {"type": ["number", "null"]},
        "truncation": nullable(ref("CreateTruncation")),
    }
)


def components() -> dict[str, Schema]:
    """Schemas by name."""
    return {
        "Error": _error(),
        "Response": _response("id", "output"),
        "StreamedResponse": _streamed(),
        "ResponseUsage": _usage(),
        "ResponseEvent": _event(),
        "Item": _item(),
        "ContentPart": _open({"type": _TEXT}, "type"),
        "ItemList": page(ref("Item")),
        "DeletedResponse": deleted("response.deleted"),
        "Compaction": _compaction(),
        "InputTokens": _input_tokens(),
        "Conversation": _conversation(),
        "DeletedConversation": deleted("conversation.deleted"),
        "Model": _model(),
        "ModelList": object_with({"object": {"const": "list"}, "data": {"type": "array", "items": ref("Model")}}),
        "Usage": _own_usage(),
        "Live": object_with({"status": {"const": "ok"}}),
        "Readiness": _readiness(),
    }


def page(element: Schema, *, cursor: Schema | None = None) -> Schema:
    """A page of a list."""
    place = nullable(_TEXT) if cursor is None else cursor
    return object_with(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": element},
            "first_id": described(place, "Id of the first entry; null in an empty page."),
            "last_id": described(place, "Id of the last entry: the `after` of the next page."),
            "has_more": described({"type": "boolean"}, "Whether another page follows."),
        }
    )


def deleted(kind: str, name: str = "id") -> Schema:
    """Return the schema of the answer that says that a thing is gone."""
    return object_with({name: _TEXT, "object": {"const": kind}, "deleted": {"const": True}})


def _open(members: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": members, "required": [*required]}


def _error() -> Schema:
    error = _open(
        {
            "message": described(_TEXT, "What is wrong, for people."),
            "type": described(_TEXT, "`invalid_request_error`, `rate_limit_error`, `server_error`, or upstream's own."),
            "param": described(one_of(_TEXT, NULL), "The parameter at fault, by its path."),
            "code": described(one_of(_TEXT, NULL), "What is wrong, for programs."),
        },
        *("message", "type", "param", "code"),
    )
    return described(_open({"error": error}, "error"), "An error. Upstream's own may have more members.")


def _response(*required: str) -> Schema:
    members: dict[str, Schema] = {
        "id": _TEXT,
        "object": {"const": "response"},
        "created_at": {"type": "number", "description": "Unix seconds."},
        "completed_at": nullable({"type": "number", "description": "Unix seconds."}),
        "status": {"enum": sorted(STATUSES)},
        "error": one_of(_open({"code": _TEXT, "message": _TEXT}, "code", "message"), NULL),
        "incomplete_details": one_of(_open({"reason": _TEXT}), NULL),
        "model": _TEXT,
        "output": {"type": "array", "items": ref("Item")},
        "usage": one_of(ref("ResponseUsage"), NULL),
        "metadata": one_of(ref("Metadata"), NULL),
        "background": {"type": "boolean"},
        "store": {"type": "boolean"},
        "previous_response_id": nullable(_TEXT),
        "conversation": one_of(_open({"id": _TEXT}, "id"), NULL),
        "tools": described({"type": "array", "items": _open({"type": _TEXT})}, "Without the secrets in them."),
        "service_tier": nullable(_TEXT),
        **{name: described(schema, "As it was asked for, or upstream's default.") for name, schema in _ASKED.items()},
    }
    return described(
        _open(members, *required),
        "A response as upstream made it. `store`, `background`, `previous_response_id` and `conversation` say what was "
        "asked of the gateway.",
    )


def _streamed() -> Schema:
    """A response in an event, of which nothing is changed: upstreams leave members out, and have other states."""
    response = _response()
    members = {**response["properties"], "status": _TEXT}
    return {**response, "properties": members, "description": "The response as of this event, as upstream tells it."}


def _usage() -> Schema:
    details = one_of({"type": "object"}, NULL)
    members = {**dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), _COUNT)}
    return _open({**members, "input_tokens_details": details, "output_tokens_details": details})


def _event() -> Schema:
    kinds = ("created", "queued", "in_progress", "completed", "incomplete", "failed")
    number = {"sequence_number": _COUNT}
    of_response = _open(
        {"type": {"enum": [f"response.{kind}" for kind in kinds]}, "response": ref("StreamedResponse"), **number},
        "type",
    )
    of_item = _open(
        {
            "type": {"enum": ["response.output_item.added", "response.output_item.done"]},
            "output_index": _COUNT,
            "item": ref("Item"),
            **number,
        },
        "type",
        "item",
    )
    known = [name for schema in (of_response, of_item) for name in schema["properties"]["type"]["enum"]]
    other = _open({"type": {"type": "string", "not": {"enum": known}}, **number})
    other["description"] = "Any other event of the Responses API, such as `response.output_text.delta` or `error`."
    return {
        "anyOf": [of_response, of_item, other],
        "description": "The data of one event. Frames are relayed as upstream sends them. `response.completed`, "
        "`response.incomplete` or `response.failed` is the last, and leaves when the response is stored.",
    }


def _item() -> Schema:
    parts: Schema = {"type": "array", "items": ref("ContentPart")}
    members: dict[str, Schema] = {
        "type": described(_TEXT, "`message`, `function_call`, `reasoning`, or another type of the Responses API."),
        "id": nullable(_TEXT),
        "status": nullable(_TEXT),
        "role": described(nullable(_TEXT), "Of a message."),
        "content": described(one_of(_TEXT, parts, NULL), "Of a message or of reasoning."),
        "call_id": described(nullable(_TEXT), "Of a call and of its output."),
        "name": described(nullable(_TEXT), "Of a call: the tool's."),
        "arguments": described(_ANY, "Of a function call: JSON, as a string."),
        "output": described(_ANY, "Of a call's output."),
        "summary": described(_ANY, "Of reasoning."),
        "encrypted_content": described(nullable(_TEXT), "Of reasoning and of a compaction."),
    }
    return described(_open(members), "An input or output item. Each type has members of its own.")


def _compaction() -> Schema:
    members = {
        "id": _TEXT,
        "object": {"const": "response.compaction"},
        "created_at": {"type": "number"},
        "output": {"type": "array", "items": ref("Item")},
        "usage": one_of(ref("ResponseUsage"), NULL),
    }
    return described(_open(members, "output"), "A shorter context: `output` is the input to go on from.")


def _input_tokens() -> Schema:
    words = "Upstream's own answer, or `response.input_tokens` with an estimate."
    return described(_open({"object": _TEXT, "input_tokens": _COUNT}), words)


def _conversation() -> Schema:
    return object_with(
        {"id": _TEXT, "object": {"const": "conversation"}, "created_at": _SECONDS, "metadata": ref("Metadata")}
    )


def _model() -> Schema:
    return _open({"id": _TEXT, "object": _ANY, "created": _ANY, "owned_by": _ANY}, "id")


def _counts() -> dict[str, Schema]:
    cost = described({"type": ["number", "null"]}, "US dollars; null where no price is known.")
    return {name: cost if name == "cost_usd" else _COUNT for name in OWN}


def _own_usage() -> Schema:
    limit = object_with(
        {
            "of": {"enum": [*get_args(Whose)]},
            "name": described(_TEXT, f"What is limited ({', '.join(get_args(Unit))}), and in which time."),
            "limit": {"type": "number"},
            "used": {"type": "number"},
            "remaining": {"type": "number", "minimum": 0},
            "resets_at": one_of(_SECONDS, NULL),
        }
    )
    current = object_with({"begins": _SECONDS, **_counts()})
    group = object_with({"begins": one_of(_SECONDS, NULL), "model": nullable(_TEXT), **_counts()})
    return object_with(
        {
            "object": {"const": "usage"},
            "api_key_id": _TEXT,
            "project_id": _TEXT,
            "limits": {"type": "array", "items": limit},
            "current": object_with({"day": current, "week": current, "month": current}),
            "since": _SECONDS,
            "until": _SECONDS,
            "data": {"type": "array", "items": group},
        }
    )


def _readiness() -> Schema:
    return {
        "type": "object",
        "description": "What was checked, and what came of it.",
        "properties": {"status": {"enum": ["ready", "not ready"]}, "admission": _TEXT},
        "required": ["status"],
        "additionalProperties": _TEXT,
    }
