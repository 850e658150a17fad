"""Read a create call that a client sends where chat completions are asked for, as the editor Cursor does.

Its tools may stand in chat's form. It is answered in chat's form, and nothing of it is stored.
"""

from typing import Any, TypeGuard

import orjson

from app.errors import InvalidRequestError
from app.wire.json_body import Json
from app.wire.requests.create import CreateRequest, IsStrict, check_create_request, read_members
from app.wire.requests.passthrough_request import PassthroughRequest, parse_passthrough_request

_NOT_STORED = Json(b"false")
_GROUPS = frozenset({"function", "custom"})
# Chat's own, or of no meaning for a response that is not stored.
_LEFT_OUT = ("messages", "stream_options", "previous_response_id", "conversation", "background")


def parse_chat_request(raw: bytes, max_depth: int, is_strict: IsStrict) -> PassthroughRequest | CreateRequest:
    """Parse a chat call, or a create call in its place, with an input and no messages. Raises InvalidRequestError."""
    try:
        return parse_passthrough_request("chat", raw, max_depth)
    except InvalidRequestError as error:
        if error.param != "messages" or b'"input"' not in raw:
            raise
        fields, members, is_large = read_members(raw, max_depth)
        if "input" not in fields or fields.get("messages"):
            raise
    for name in _LEFT_OUT:
        fields.pop(name, None)
        members.pop(name, None)
    if isinstance(fields.get("tools"), list):
        _set(fields, members, "tools", [flat_tool(tool) for tool in fields["tools"]])
    if "tool_choice" in fields:
        _set(fields, members, "tool_choice", flat_tool(fields["tool_choice"]))
    fields["store"], members["store"] = False, _NOT_STORED
    return check_create_request(fields, members, is_large=is_large, is_strict=is_strict)


def flat_tool(tool: Any) -> Any:
    """Write a tool, or the choice of one, without the member that chat puts it into; anything else stays."""
    return {"type": tool["type"], **tool[tool["type"]]} if _is_grouped(tool) else tool


def _is_grouped(tool: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
        return False
    return tool["type"] in _GROUPS and isinstance(tool.get(tool["type"]), dict)


def _set(fields: dict[str, Any], members: dict[str, Json], name: str, value: Any) -> None:
    if fields[name] != value:
        fields[name], members[name] = value, Json(orjson.dumps(value))
