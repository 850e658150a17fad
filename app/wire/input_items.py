"""Input items as clients send them: which type one has, and the check of each type we know.

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


def item_type(item: Mapping[str, Any]) -> str | None:
    """The item's type. Without one a role makes it a message, and an id alone an item_reference; None for the rest."""
    kind: str | None = item.get("type")
    if kind is not None:
        return kind
    if "role" in item:
        return "message"
    return "item_reference" if "id" in item and item.keys() <= {"id", "type"} else None


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
    if check is not None:
        check(value, path)


def _check_message(value: Any, path: str) -> None:
    _MESSAGE(value, path)
    if value["role"] != "assistant" or isinstance(value["content"], str):
        return
    # The mistake people make when they replay an answer: what the model said is output, also when it is sent.
    for index, part in enumerate(value["content"]):
        if part["type"] == "input_text":
            raise wording.invalid_value(f"{path}.content[{index}].type", "input_text", ("output_text", "refusal"))


_ANY_ITEM = either("an input item", {dict: object_of(optional={"type": string(), "id": _ITEM_ID})})
_ITEMS: Mapping[str, Check] = {
    "message": _check_message,
    "function_call": object_of(required={"call_id": _CALL_ID, "name": string(), "arguments": string()}),
    "function_call_output": object_of(required={"call_id": _CALL_ID, "output": _OUTPUT}),
    "custom_tool_call": object_of(required={"call_id": _CALL_ID, "name": string(), "input": string()}),
    "custom_tool_call_output": object_of(required={"call_id": _CALL_ID, "output": _OUTPUT}),
    "reasoning": object_of(required={"summary": array}),
    "compaction": object_of(required={"encrypted_content": string(maximum=LONGEST_SEALED)}),
    "item_reference": object_of(required={"id": _ITEM_ID}),
}
_STRUCTURES: Mapping[str, Check] = {
    **_ITEMS,
    "message": object_of(required={"role": string(), "content": _CONTENT}),
}
