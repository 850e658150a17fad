"""Write an item as the list endpoints show it: with its id, its type, and every member that OpenAI's types require."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import orjson

from app.state.records import Item
from app.wire.json_body import Json, elements, join_array, join_object, members

_NULL, _NOTHING, _NONE_OF_THEM = Json(b"null"), Json(b""), Json(b"[]")
_ASSISTANT, _CLIENT, _SERVER = Json(b'"assistant"'), Json(b'"client"'), Json(b'"server"')
_STATUS: Mapping[str, Json] = MappingProxyType({"status": Json(b'"completed"')})
_HAS_STATUS = ("_call", "_call_output")
# Members that may be null in a request, and are absent in a list.
_NEVER_NULL = ("acknowledged_safety_checks", "call_id", "name", "namespace", "status")
# Members that a client may leave out of such an item, with their defaults.
_LEFT_OUT: Mapping[str, Mapping[str, Json]] = MappingProxyType(
    {
        "additional_tools": {"role": Json(b'"developer"')},
        "code_interpreter_call": {"code": _NULL, "outputs": _NULL, **_STATUS},
        "computer_call": {"pending_safety_checks": _NONE_OF_THEM, **_STATUS},
        "image_generation_call": {"result": _NULL, **_STATUS},
        "message": _STATUS,
        "program_output": _STATUS,
        "reasoning": {"summary": _NONE_OF_THEM},
        "shell_call": {"environment": _NULL, **_STATUS},
        "shell_call_output": {"max_output_length": _NULL, **_STATUS},
        "tool_search_call": {"call_id": _NULL},
        "tool_search_output": {"call_id": _NULL},
    }
)
_LEFT_OUT_OF_PARTS: Mapping[bytes, Mapping[str, Json]] = MappingProxyType(
    {
        b'"output_text"': {"annotations": _NONE_OF_THEM, "logprobs": _NONE_OF_THEM},
        b'"input_image"': {"detail": Json(b'"auto"')},
    }
)
_LEFT_OUT_OF_ACTIONS: Mapping[str, Json] = MappingProxyType({"timeout_ms": _NULL, "max_output_length": _NULL})
# The members of an item that may hold parts.
_IN_PARTS = ("content", "output")


def item_as_listed(item: Item) -> bytes:
    """Write the item as it is listed."""
    item_id = Json(orjson.dumps(item.id))
    parts = {"id": item_id, "type": Json(orjson.dumps(item.type)), **members(item.content)}
    parts["id"] = item_id
    for name in _NEVER_NULL:
        if parts.get(name) == _NULL:
            del parts[name]
    if item.type == "message":
        content = parts.get("content", _NOTHING)
        if memoryview(content)[:1].tobytes() == b'"':
            parts["content"] = Json(_text_part(bytes(content), by_assistant=parts.get("role") == _ASSISTANT))
    for name in _IN_PARTS:
        if name in parts and memoryview(parts[name])[:1].tobytes() == b"[":
            parts[name] = Json(join_array([*_listed_parts(parts[name])]))
    if item.type == "shell_call" and "action" in parts:
        parts["action"] = Json(join_object({**_LEFT_OUT_OF_ACTIONS, **members(parts["action"])}))
    return join_object({**_left_out(item, parts), **parts})


def _left_out(item: Item, parts: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the defaults of the members that the item's client left out."""
    left_out = _LEFT_OUT.get(item.type, _STATUS if item.type.endswith(_HAS_STATUS) else {})
    match item.type:
        case "tool_search_call" | "tool_search_output":
            # A tool search with a `call_id` is run by the client.
            return {**left_out, **_STATUS, "execution": _CLIENT if "call_id" in parts else _SERVER}
        case "mcp_approval_response" if "approval_request_id" in parts:
            return {"request_id": parts["approval_request_id"]}
        case "local_shell_call_output" if item.call_id is not None:
            return {**left_out, "call_id": Json(orjson.dumps(item.call_id))}
    return left_out


def _listed_parts(sent: Json) -> Iterator[bytes]:
    for raw in elements(sent):
        left_out = _LEFT_OUT_OF_PARTS.get(_type_of(raw))
        if left_out is None:
            yield raw
        else:
            part = members(raw)
            given = {name: value for name, value in part.items() if name not in left_out or value != _NULL}
            yield join_object({**given, **{name: value for name, value in left_out.items() if name not in given}})


def _type_of(raw: bytes) -> bytes:
    return bytes(members(raw).get("type", _NOTHING)) if raw.startswith(b"{") else b""


def _text_part(text: bytes, *, by_assistant: bool) -> bytes:
    if by_assistant:
        return b'[{"type":"output_text","text":' + text + b',"annotations":[],"logprobs":[]}]'
    return b'[{"type":"input_text","text":' + text + b"}]"
