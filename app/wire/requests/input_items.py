"""Check input items as clients send them, find the type of each, and recognise references and stubs.

Types, parts and members that are not named here pass: upstream may know them.
"""

from collections.abc import Mapping
from typing import Any

from app.wire import error_messages
from app.wire.requests.value_checks import Check, array, array_of, either, enum, object_of, string

LONGEST_TEXT = 10_485_760
LONGEST_SEALED = 20_971_520

_PART = object_of(required={"type": string()})
_TEXT_OR_PARTS = "one of a string or array of objects"
_CONTENT = either(_TEXT_OR_PARTS, {str: string(), list: array_of(_PART)})
_OUTPUT = either(_TEXT_OR_PARTS, {str: string(maximum=LONGEST_TEXT), list: array_of(_PART)})
# OpenAI's have 64 at most; other upstreams' are longer, and come back in what a client replays.
_ITEM_ID = string(maximum=512)
_CALL_ID = string(non_empty=True)
MESSAGE = object_of(
    required={"role": enum("user", "assistant", "system", "developer"), "content": _CONTENT},
)

TRIGGER = "compaction_trigger"
"""The type of an item that asks for a compaction, and is no part of the context."""

# Members that describe an item, and hold none of its content.
DESCRIPTIVE = frozenset({"created_by", "id", "phase", "role", "status", "type"})
# The members with the content of each type: an item with an id and none of these is a stub of the stored item. The
# content of other types is all that is not descriptive.
_CONTENT_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "apply_patch_call": ("operation",),
    "code_interpreter_call": ("code", "outputs"),
    "computer_call": ("action", "actions"),
    "file_search_call": ("queries", "results"),
    "image_generation_call": ("result",),
    "local_shell_call": ("action",),
    "mcp_call": ("arguments", "error", "output"),
    "mcp_list_tools": ("error", "tools"),
    "message": ("content",),
    "program": ("code",),
    "reasoning": ("content", "encrypted_content"),
    "shell_call": ("action",),
    "web_search_call": ("action",),
}


def item_type(item: Mapping[str, Any]) -> str | None:
    """Return the item's type. Without one a role makes it a message, an id alone an item_reference; else None."""
    kind: str | None = item.get("type")
    if kind is not None:
        return kind
    if "role" in item:
        return "message"
    return "item_reference" if "id" in item and item.keys() <= {"id", "type"} else None


def is_bare(item: Mapping[str, Any]) -> bool:
    """Tell whether the item has an id and no content: a reference, whatever its type."""
    if not item.get("id"):
        return False
    said = [name for name, member in item.items() if member is not None and name not in DESCRIPTIVE]
    # A reasoning item requires the summary, which may be empty.
    return not said or (said == ["summary"] and not item["summary"] and item.get("type") == "reasoning")


def is_stub(item: Mapping[str, Any]) -> bool:
    """Tell whether the item has an id and too little content, so that the item stored under that id is meant."""
    content = _CONTENT_MEMBERS.get(item.get("type") or "")
    if content is None:
        return is_bare(item)
    return bool(item.get("id")) and not any(map(item.get, content))


def check_item(value: Any, path: str) -> None:
    """Check an input item by OpenAI's rules. InvalidRequestError names the first fault."""
    _check(value, path, ITEMS)


def check_structure(value: Any, path: str) -> None:
    """Check an input item for an upstream that may know other roles, and other parts of a message."""
    _check(value, path, STRUCTURES)


def _check(value: Any, path: str, checks: Mapping[str, Check]) -> None:
    _ANY_ITEM(value, path)
    kind = item_type(value)
    if kind is None:
        raise error_messages.missing(f"{path}.type")
    check = checks.get(kind)
    if check is not None and not (value.get("id") and is_bare(value)):
        check(value, path)


def _check_message(value: Any, path: str) -> None:
    MESSAGE(value, path)
    if value["role"] != "assistant" or isinstance(value["content"], str):
        return
    # A frequent mistake in replaying an answer: the model's text is output, also in an input.
    for index, part in enumerate(value["content"]):
        if part["type"] == "input_text":
            raise error_messages.invalid_value(
                f"{path}.content[{index}].type", "input_text", ("output_text", "refusal")
            )


def _check_function_output(value: Any, path: str) -> None:
    # An output without a call has the tool's name.
    (NAMED_OUTPUT if value.get("call_id") is None and value.get("name") else CALL_OUTPUT)(value, path)


CALL_OUTPUT = object_of(required={"call_id": _CALL_ID, "output": _OUTPUT})
NAMED_OUTPUT = object_of(required={"name": string(), "output": _OUTPUT})
_ANY_ITEM = either("an input item", {dict: object_of(optional={"type": string(), "id": _ITEM_ID})})
ITEMS: Mapping[str, Check] = {
    "message": _check_message,
    "function_call": object_of(required={"call_id": _CALL_ID, "name": string(), "arguments": string()}),
    "function_call_output": _check_function_output,
    "custom_tool_call": object_of(required={"call_id": _CALL_ID, "name": string(), "input": string()}),
    "custom_tool_call_output": CALL_OUTPUT,
    "reasoning": object_of(required={"summary": array}),
    "compaction": object_of(required={"encrypted_content": string(maximum=LONGEST_SEALED)}),
    "item_reference": object_of(required={"id": _ITEM_ID}),
}
STRUCTURES: Mapping[str, Check] = {
    **ITEMS,
    "message": object_of(required={"role": string(), "content": _CONTENT}),
}
