"""Check the bodies of the conversations endpoints in OpenAI's order, and write the conversation object.

Unlike a create body these are closed: members that are not named here are refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import InvalidRequestError
from app.wire import error_messages, json_body
from app.wire.requests.create import IsStrict, strictly
from app.wire.requests.input_items import check_item, check_structure
from app.wire.requests.metadata import check_metadata
from app.wire.requests.value_checks import Check, array_of

_MOST_ITEMS = 20

FIELDS: Mapping[str, Check] = {
    "items": array_of(check_item, maximum=_MOST_ITEMS),
    "metadata": check_metadata,
}
STRUCTURAL_ITEMS = array_of(check_structure, maximum=_MOST_ITEMS)


@dataclass(frozen=True, slots=True)
class NewItems:
    """Hold items to add to a conversation, decoded and as they were sent."""

    given: Sequence[Any]
    raw: bytes


@dataclass(frozen=True, slots=True)
class NewConversation:
    """Hold the metadata and the items that a conversation begins with."""

    metadata: bytes
    items: NewItems


def parse_new_conversation(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> NewConversation:
    """Parse the body of POST /v1/conversations. Both members, and the body, may be left out or null."""
    fields, members = _checked(raw or b"{}", max_depth, is_strict, "items", "metadata")
    return NewConversation(_metadata(fields), _items(fields, members))


def parse_new_items(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> NewItems:
    """Parse the body of POST /v1/conversations/{id}/items."""
    return _items(*_checked(raw, max_depth, is_strict, "items", required="items"))


def parse_metadata(raw: bytes, max_depth: int) -> bytes:
    """Parse the body of POST /v1/conversations/{id}: the metadata that replace the present; null removes them."""
    return _metadata(_checked(raw, max_depth, strictly, "metadata", required="metadata")[0])


def conversation(conversation_id: str, created_at: int, metadata: bytes) -> bytes:
    """Write the conversation object."""
    return orjson.dumps(
        {
            "id": conversation_id,
            "object": "conversation",
            "created_at": created_at,
            "metadata": orjson.Fragment(metadata),
        }
    )


def _checked(
    raw: bytes, max_depth: int, is_strict: IsStrict, *known: str, required: str | None = None
) -> tuple[dict[str, Any], dict[str, json_body.Json]]:
    fields, members, _ = json_body.read_object(raw, max_depth, known, "items")
    if required is not None and required not in fields:
        raise error_messages.missing(required)
    for name in fields:
        if name not in known:
            raise error_messages.unknown_parameter(name)
    for name in known:
        value = fields.get(name)
        # A required list of items may not be null.
        if value is not None or name == required == "items":
            _check(name, value, is_strict)
    return fields, members


def _check(name: str, value: Any, is_strict: IsStrict) -> None:
    try:
        FIELDS[name](value, name)
    except InvalidRequestError:
        # The upstream that serves the conversation may accept these items.
        if name != "items" or is_strict(None):
            raise
        STRUCTURAL_ITEMS(value, name)


def _metadata(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields.get("metadata") or {})


def _items(fields: Mapping[str, Any], members: Mapping[str, json_body.Json]) -> NewItems:
    given = fields.get("items") or []
    return NewItems(given, bytes(members["items"]) if given else b"[]")
