"""Input items as clients send them: which type one has, what it leaves out, and the check of each type we know.

Types, parts and members that are not named here pass: upstream may know them.
"""

from collections.abc import Mapping
from typing import Any

from app.wire import wording
from app.wire.fields import Check, array, array_of, either, enum, object_of, string

LONGEST_TEXT = 10_485_760
LONGEST_SEALED = 20_971_520

_PART = object_of(required={"type": string()})
_TEXT_OR_PARTS = "one of a string or array of objects"
_CONTENT = either(_TEXT_OR_PARTS, {str: string(), list: array_of(_PART)})
_OUTPUT = either(_TEXT_OR_PARTS, {str: string(maximum=LONGEST_TEXT), list: array_of(_PART)})
# OpenAI's own have 64 at most; other upstreams' are longer, and come back with what a client replays.
_ITEM_ID = string(maximum=512)
_CALL_ID = string(non_empty=True)
_MESSAGE = object_of(
    required={"role": enum("user", "assistant", "system", "developer"), "content": _CONTENT},
)

TRIGGER = "compaction_trigger"
"""The type of an item that asks for something and says nothing: no part of the context that it stands in."""

# What an item says about itself, and not about what was said or done.
_DESCRIPTIVE = frozenset({"created_by", "id", "phase", "role", "status", "type"})
# What items of these types are about: one that has an id and none of this stands for the item that was stored. Of other
# types that is whatever is not descriptive.
_ABOUT: Mapping[str, tuple[str, ...]] = {
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
    """The item's type. Without one a role makes it a message, and an id alone an item_reference; None for the rest."""
    kind: str | None = item.get("type")
    if kind is not None:
        return kind
    if "role" in item:
        return "message"
    return "item_reference" if "id" in item and item.keys() <= {"id", "type"} else None


def is_bare(item: Mapping[str, Any]) -> bool:
    """Whether it has an id and nothing else that says anything: a reference, whatever its type."""
    if not item.get("id"):
        return False
    said = [name for name, member in item.items() if member is not None and name not in _DESCRIPTIVE]
    # Its type demands the summary; an empty one says nothing.
    return not said or (said == ["summary"] and not item["summary"] and item.get("type") == "reasoning")


def is_stub(item: Mapping[str, Any]) -> bool:
    """Whether it has an id and less than its content, so that the item stored under that id is meant."""
    about = _ABOUT.get(item.get("type") or "")
    if about is None:
        return is_bare(item)
    return bool(item.get("id")) and not any(map(item.get, about))


def check_item(value: Any, path: str) -> None:
    """Raise the InvalidRequestError that names the first fault of one input item."""
    _check(value, path, _ITEMS)


def check_structure(value: Any, path: str) -> None:
    """The same for an upstream that is not OpenAI: it may know other roles, and take a message's parts as they are."""
    _check(value, path, _STRUCTURES)


def _check(value: Any, path: str, checks: Mapping[str, Check]) -> None:
    _ANY_ITEM(value, path)
    kind = item_type(value)
    if kind is None:
        raise wording.missing(f"{path}.type")
    check = checks.get(kind)
    if check is not None and not (value.get("id") and is_bare(value)):
        check(value, path)


def _check_message(value: Any, path: str) -> None:
    _MESSAGE(value, path)
    if value["role"] != "assistant" or isinstance(value["content"], str):
        return
    # The mistake people make when they replay an answer: what the model said is output, also when it is sent.
    for index, part in enumerate(value["content"]):
        if part["type"] == "input_text":
            raise wording.invalid_value(f"{path}.content[{index}].type", "input_text", ("output_text", "refusal"))


def _check_function_output(value: Any, path: str) -> None:
    # The name says whose output it is where no call was made for it.
    (_NAMED_OUTPUT if value.get("call_id") is None and value.get("name") else _CALL_OUTPUT)(value, path)


_CALL_OUTPUT = object_of(required={"call_id": _CALL_ID, "output": _OUTPUT})
_NAMED_OUTPUT = object_of(required={"name": string(), "output": _OUTPUT})
_ANY_ITEM = either("an input item", {dict: object_of(optional={"type": string(), "id": _ITEM_ID})})
_ITEMS: Mapping[str, Check] = {
    "message": _check_message,
    "function_call": object_of(required={"call_id": _CALL_ID, "name": string(), "arguments": string()}),
    "function_call_output": _check_function_output,
    "custom_tool_call": object_of(required={"call_id": _CALL_ID, "name": string(), "input": string()}),
    "custom_tool_call_output": _CALL_OUTPUT,
    "reasoning": object_of(required={"summary": array}),
    "compaction": object_of(required={"encrypted_content": string(maximum=LONGEST_SEALED)}),
    "item_reference": object_of(required={"id": _ITEM_ID}),
}
_STRUCTURES: Mapping[str, Check] = {
    **_ITEMS,
    "message": object_of(required={"role": string(), "content": _CONTENT}),
}
