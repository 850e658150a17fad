"""Validate the input items as a strict stateless upstream does: no unpaired call, no item to look up."""

from collections.abc import Sequence

from app.demo.conversation_input import CALL_OF_OUTPUT, Item
from app.errors import InvalidRequestError
from app.wire import error_messages
from app.wire.requests.input_items import is_bare, item_type
from app.wire.requests.value_checks import array_of, enum, object_of

# Marks the demo's own reasoning: plain text, "encrypted" only in name.
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
    """Parse the `input` of a valid call into items, each with its `type`. Raises InvalidRequestError."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = tuple({**item, "type": item_type(item)} for item in given)
    for index, item in enumerate(items):
        _check_known(item, f"input[{index}]")
    _check_pairs(items)
    _check_reasoning(items)
    return items


def _check_known(item: Item, path: str) -> None:
    """Refuse an item that is stored elsewhere, or a part that this model cannot read."""
    if item["type"] == "item_reference" or (item["type"] != "reasoning" and is_bare(item)):
        raise error_messages.item_not_found(item["id"])
    held = _HOLDING.get(item["type"])
    if held is not None and not isinstance(item[held], str):
        check = _ANSWERED if item.get("role") == "assistant" else _GIVEN
        check(item[held], f"{path}.{held}")


def _check_pairs(items: Sequence[Item]) -> None:
    """Require an earlier call for every output, and a later output for every call."""
    called: dict[tuple[str, str], bool] = {}
    for item in items:
        if item["type"] in CALL_OF_OUTPUT.values():
            called[item["type"], item["call_id"]] = False
        elif item["type"] in CALL_OF_OUTPUT and item.get("call_id") is not None:
            call = CALL_OF_OUTPUT[item["type"]], item["call_id"]
            if call not in called:
                raise error_messages.output_without_call(item["type"], call[1])
            called[call] = True
    for (kind, call_id), answered in called.items():
        if not answered:
            raise error_messages.unanswered_call(kind, call_id)


def _check_reasoning(items: Sequence[Item]) -> None:
    """Require reasoning to be the demo's own, and to stand right before an output item."""
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
        raise error_messages.item_not_found(
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
