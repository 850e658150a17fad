"""The bodies of the conversations endpoints: what is taken in, and what is refused in OpenAI's words."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError
from app.wire.requests.conversation_bodies import conversation, parse_metadata, parse_new_conversation, parse_new_items
from tests.wire.refusals import MAX_DEPTH, Refused, message, missing, wrong_type

Parse = Callable[[bytes, int], Any]

ITEM = message()


def unknown(param: str) -> Refused:
    return Refused("unknown_parameter", param, f"Unknown parameter: '{param}'.")


def too_many_items() -> Refused:
    return Refused(
        "array_above_max_length",
        "items",
        "Invalid 'items': array too long. Expected an array with maximum length 20, "
        "but got an array with length 21 instead.",
    )


@pytest.mark.parametrize(
    ("parse", "fields", "expected"),
    [
        (parse_new_conversation, {"color": "red"}, unknown("color")),
        (parse_new_conversation, {"color": "red", "metadata": 1}, unknown("color")),
        (parse_new_conversation, {"metadata": []}, wrong_type("metadata", "a metadata object", "an array")),
        (parse_new_conversation, {"metadata": {"a": 1}}, wrong_type("metadata.a", "a string", "an integer")),
        (parse_new_conversation, {"items": "hi"}, wrong_type("items", "an array", "a string")),
        (parse_new_conversation, {"items": [ITEM] * 21}, too_many_items()),
        (parse_new_conversation, {"items": ["hi"]}, wrong_type("items[0]", "an input item", "a string")),
        (parse_new_conversation, {"items": [ITEM, {}]}, missing("items[1].type")),
        (parse_new_items, {}, missing("items")),
        (parse_new_items, {"color": "red"}, missing("items")),
        (parse_new_items, {"items": [], "metadata": {}}, unknown("metadata")),
        (parse_new_items, {"items": None}, wrong_type("items", "an array", "an object")),
        (parse_new_items, {"items": [ITEM] * 21}, too_many_items()),
        (parse_metadata, {}, missing("metadata")),
        (parse_metadata, {"metadata": {}, "items": []}, unknown("items")),
        (parse_metadata, {"metadata": "a"}, wrong_type("metadata", "a metadata object", "a string")),
    ],
)
def test_a_fault_is_named_in_openais_words(parse: Parse, fields: dict[str, Any], expected: Refused) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(orjson.dumps(fields), MAX_DEPTH)
    error = caught.value
    assert (error.status, Refused(error.code or "", error.param, error.message)) == (400, expected)


@pytest.mark.parametrize("fields", [{}, {"items": None, "metadata": None}, {"items": [], "metadata": {}}])
def test_a_conversation_may_begin_with_nothing(fields: dict[str, Any]) -> None:
    given = parse_new_conversation(orjson.dumps(fields), MAX_DEPTH)
    assert (given.metadata, given.items.given, given.items.raw) == (b"{}", [], b"[]")


def test_items_keep_their_bytes() -> None:
    given = parse_new_items(b'{"items":[ {"role": "user", "content":"\\u00e9"} ]}', MAX_DEPTH)
    assert given.given == [{"role": "user", "content": "é"}]
    assert given.raw == b'[ {"role": "user", "content":"\\u00e9"} ]'
    assert len(parse_new_items(orjson.dumps({"items": [ITEM] * 20}), MAX_DEPTH).given) == 20


def test_metadata_may_be_taken_away() -> None:
    assert parse_metadata(b'{"metadata":null}', MAX_DEPTH) == b"{}"
    assert parse_metadata(b'{"metadata":{"a":"b"}}', MAX_DEPTH) == b'{"a":"b"}'


def test_a_conversation_is_shown_with_its_metadata() -> None:
    assert orjson.loads(conversation("conv_1", 5, b'{"a":"b"}')) == {
        "id": "conv_1",
        "object": "conversation",
        "created_at": 5,
        "metadata": {"a": "b"},
    }
