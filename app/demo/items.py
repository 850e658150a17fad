"""Reads the input items as a strict upstream without a memory does: nothing dangling, nothing it cannot look up."""

from collections.abc import Sequence

from app.demo.history import CALL_OF_OUTPUT, Item
from app.errors import InvalidRequestError
from app.wire import wording
from app.wire.fields import array_of, enum, object_of
from app.wire.input_items import is_bare, item_type

# Reasoning made here is known by this prefix: text in the clear, "encrypted" only in name.
ENCRYPTED_PREFIX = "demo-enc:"

_ANSWERED = array_of(object_of(required={"type": enum("output_text", "refusal")}))
_GIVEN = array_of(
    object_of(
        required={
            "type": enum(
                "input_text",
                "input_image",
                "input_audio",
                "output_text",
                "refusal",
                "input_file",
                "computer_screenshot",
                "summary_text",
            )
        }
    )
)
_HOLDING = {"message": "content", **dict.fromkeys(CALL_OF_OUTPUT, "output")}
_SPOKEN_TO = ("user", "system", "developer")


def read_items(given: str | Sequence[Item]) -> tuple[Item, ...]:
    """The `input` of a valid call as items, each with its `type`. Raises InvalidRequestError."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = tuple({**item, "type": item_type(item)} for item in given)
    for index, item in enumerate(items):
        _check_known(item, f"input[{index}]")
    _check_pairs(items)
    _check_reasoning(items)
    return items


def _check_known(item: Item, path: str) -> None:
    """No item that is kept elsewhere, and no part that this model could not read."""
    if item["type"] == "item_reference" or (item["type"] != "reasoning" and is_bare(item)):
        raise wording.item_not_found(item["id"])
    held = _HOLDING.get(item["type"])
    if held is not None and not isinstance(item[held], str):
        check = _ANSWERED if item.get("role") == "assistant" else _GIVEN
        check(item[held], f"{path}.{held}")


def _check_pairs(items: Sequence[Item]) -> None:
    """Every output has an earlier call and every call a later output."""
    called: dict[tuple[str, str], bool] = {}
    for item in items:
        if item["type"] in CALL_OF_OUTPUT.values():
            called[item["type"], item["call_id"]] = False
        elif item["type"] in CALL_OF_OUTPUT and item.get("call_id") is not None:
            call = CALL_OF_OUTPUT[item["type"]], item["call_id"]
            if call not in called:
                raise wording.output_without_call(item["type"], call[1])
            called[call] = True
    for (kind, call_id), answered in called.items():
        if not answered:
            raise wording.unanswered_call(kind, call_id)


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
        raise wording.item_not_found(
            thought["id"],
            " Items are not persisted when `store` is set to false. "
            "Try again with `store` set to true, or remove this item from your input.",
        )
    if encrypted is not None and not str(encrypted).startswith(ENCRYPTED_PREFIX):
        raise InvalidRequestError(
            f"The encrypted content for item {thought.get('id')} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed.",
            code="invalid_encrypted_content",
        )
