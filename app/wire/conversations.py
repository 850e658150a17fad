"""The bodies of the conversations endpoints, checked in OpenAI's order, and the conversation object.

Unlike a create body these are closed: what is not named here is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import InvalidRequestError
from app.wire import body, wording
from app.wire.fields import Check, array_of
from app.wire.input_items import check_item, check_structure
from app.wire.metadata import check_metadata
from app.wire.requests import IsStrict, strictly

_MOST_ITEMS = 20

_FIELDS: Mapping[str, Check] = {
    "items": array_of(check_item, maximum=_MOST_ITEMS),
    "metadata": check_metadata,
}
_STRUCTURAL_ITEMS = array_of(check_structure, maximum=_MOST_ITEMS)


@dataclass(frozen=True, slots=True)
class NewItems:
    """Items that are to be added, decoded and as they were sent."""

    given: Sequence[Any]
    raw: bytes


@dataclass(frozen=True, slots=True)
class NewConversation:
    """What a conversation begins with."""

    metadata: bytes
    items: NewItems


def parse_new_conversation(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> NewConversation:
    """The body of POST /v1/conversations. Both members may be left out, or be null, and so may the body."""
    fields, members = _checked(raw or b"{}", max_depth, is_strict, "items", "metadata")
    return NewConversation(_metadata(fields), _items(fields, members))


def parse_new_items(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> NewItems:
    """The body of POST /v1/conversations/{id}/items."""
    return _items(*_checked(raw, max_depth, is_strict, "items", required="items"))


def parse_metadata(raw: bytes, max_depth: int) -> bytes:
    """The body of POST /v1/conversations/{id}: the metadata that replace what there are; null removes them."""
    return _metadata(_checked(raw, max_depth, strictly, "metadata", required="metadata")[0])


def conversation(conversation_id: str, created_at: int, metadata: bytes) -> bytes:
    """The conversation object."""
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
) -> tuple[dict[str, Any], dict[str, body.Json]]:
    fields, members, _ = body.read_object(raw, max_depth, known, "items")
    if required is not None and required not in fields:
        raise wording.missing(required)
    for name in fields:
        if name not in known:
            raise wording.unknown_parameter(name)
    for name in known:
        value = fields.get(name)
        # A list of items that has to be there may not be null.
        if value is not None or name == required == "items":
            _check(name, value, is_strict)
    return fields, members


def _check(name: str, value: Any, is_strict: IsStrict) -> None:
    try:
        _FIELDS[name](value, name)
    except InvalidRequestError:
        # Whoever serves a call in the conversation may take them.
        if name != "items" or is_strict(None):
            raise
        _STRUCTURAL_ITEMS(value, name)


def _metadata(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields.get("metadata") or {})


def _items(fields: Mapping[str, Any], members: Mapping[str, body.Json]) -> NewItems:
    given = fields.get("items") or []
    return NewItems(given, bytes(members["items"]) if given else b"[]")
