"""Checks the input items as a strict upstream without a memory does: nothing dangling, nothing it cannot look up."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.demo.history import CALL_OF_OUTPUT, Item
from app.demo.parameters import invalid_type, invalid_value, missing
from app.errors import InvalidRequestError, NotFoundError

# Reasoning made here is known by this prefix: text in the clear, "encrypted" only in name.
ENCRYPTED_PREFIX = "demo-enc:"

_REQUIRED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "custom_tool_call": ("call_id", "name", "input"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call_output": ("call_id", "output"),
    "reasoning": ("summary",),
    "item_reference": ("id",),
}
_TEXTS = frozenset({"call_id", "name", "arguments", "input", "id"})
_TEXT_OR_PARTS = frozenset({"content", "output"})
_ROLES = ("assistant", "system", "developer", "user")
_ASSISTANT_PARTS = ("output_text", "refusal")
_OTHER_PARTS = (
    "input_text",
    "input_image",
    "input_audio",
    "output_text",
    "refusal",
    "input_file",
    "computer_screenshot",
    "summary_text",
)
_SPOKEN_TO = frozenset({"user", "system", "developer"})


def read_items(given: Any) -> tuple[Item, ...]:
    """The `input` parameter as items, each with its `type`. Raises InvalidRequestError (spec §4.1, §4.3, §6.2)."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}] if given else []
    if not isinstance(given, list):
        raise invalid_type("input", "one of a string or array of objects", given)
    items = tuple(_typed(item, f"input[{index}]") for index, item in enumerate(given))
    for index, item in enumerate(items):
        _check_fields(item, f"input[{index}]")
    _check_pairs(items)
    _check_reasoning(items)
    return items


def _typed(item: Any, path: str) -> Item:
    if not isinstance(item, Mapping):
        raise invalid_type(path, "an object", item)
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference"
    if not isinstance(kind, str):
        raise invalid_type(f"{path}.type", "a string", kind)
    return {**item, "type": kind}


def _check_fields(item: Item, path: str) -> None:
    for name in _REQUIRED.get(item["type"], ()):
        value = item.get(name)
        if value is None:
            raise missing(f"{path}.{name}")
        if name in _TEXTS and not isinstance(value, str):
            raise invalid_type(f"{path}.{name}", "a string", value)
        if name in _TEXT_OR_PARTS:
            _check_parts(value, f"{path}.{name}", _ASSISTANT_PARTS if item.get("role") == "assistant" else _OTHER_PARTS)
    if item["type"] == "message" and item["role"] not in _ROLES:
        raise invalid_value(f"{path}.role", item["role"], _ROLES)
    if item["type"] == "item_reference":
        raise NotFoundError(f"Item with id '{item['id']}' not found.")


def _check_parts(content: Any, path: str, allowed: Sequence[str]) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise invalid_type(path, "one of a string or array of objects", content)
    for index, part in enumerate(content):
        if not isinstance(part, Mapping):
            raise invalid_type(f"{path}[{index}]", "an object", part)
        if part.get("type") not in allowed:
            raise invalid_value(f"{path}[{index}].type", part.get("type"), allowed)


def _check_pairs(items: Sequence[Item]) -> None:
    """Every output has an earlier call and every call a later output."""
    called: dict[tuple[str, str], bool] = {}
    for item in items:
        if item["type"] in CALL_OF_OUTPUT.values():
            called[item["type"], item["call_id"]] = False
        elif item["type"] in CALL_OF_OUTPUT:
            call = CALL_OF_OUTPUT[item["type"]], item["call_id"]
            if call not in called:
                name = item["type"].replace("_", " ")
                raise InvalidRequestError(f"No tool call found for {name} with call_id {call[1]}.", param="input")
            called[call] = True
    for (kind, call_id), answered in called.items():
        if not answered:
            raise InvalidRequestError(f"No tool output found for {kind.replace('_', ' ')} {call_id}.", param="input")


def _check_reasoning(items: Sequence[Item]) -> None:
    """Reasoning belongs to the output item right after it, and was made here."""
    follower: Item | None = None
    for item in reversed(items):
        if item["type"] == "reasoning":
            _check_thought(item, follower)
        else:
            follower = item


def _check_thought(thought: Item, follower: Item | None) -> None:
    if follower is None or follower.get("role") in _SPOKEN_TO or follower["type"] in CALL_OF_OUTPUT:
        raise InvalidRequestError(
            f"Item '{thought.get('id')}' of type 'reasoning' was provided without its required following item.",
            param="input",
        )
    encrypted = thought.get("encrypted_content")
    if encrypted is None and thought.get("id") is not None:
        raise NotFoundError(
            f"Item with id '{thought['id']}' not found. Items are not persisted when `store` is set to false. "
            "Try again with `store` set to true, or remove this item from your input."
        )
    if encrypted is not None and not str(encrypted).startswith(ENCRYPTED_PREFIX):
        raise InvalidRequestError(
            f"The encrypted content for item {thought.get('id')} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed.",
            code="invalid_encrypted_content",
        )
