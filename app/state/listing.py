"""A page of items, as the list endpoints show them."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from app.errors import InvalidRequestError
from app.state.records import Chain, Item
from app.wire.body import join_array, join_object, members

DEFAULT_LIMIT = 20


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page: `after` and `before` are item ids, in the given order."""

    limit: int = DEFAULT_LIMIT
    ascending: bool = False
    after: str | None = None
    before: str | None = None


def input_of(chain: Chain) -> tuple[Item, ...]:
    """All that went into the latest response: the turns before it, and then its own input; oldest first, each once."""
    *earlier, latest = chain.turns
    items = [item for turn in earlier for item in turn.items]
    items += [item for item in latest.items if not item.is_output]
    return tuple({item.id: item for item in items}.values())


def page(items: Sequence[Item], query: PageQuery) -> bytes:
    """The list object for this page of items (given oldest first). Raises InvalidRequestError for an unknown cursor."""
    ordered = list(items) if query.ascending else list(reversed(items))
    places = {item.id: place for place, item in enumerate(ordered)}
    start = _place(places, query.after, "after", default=-1) + 1
    end = _place(places, query.before, "before", default=len(ordered))
    between = ordered[start:end]
    # `before` alone asks for the page that ends at its cursor.
    shown = between[-query.limit :] if query.before and not query.after else between[: query.limit]
    return join_object(
        {
            "object": b'"list"',
            "data": join_array(map(listed, shown)),
            "first_id": orjson.dumps(shown[0].id if shown else None),
            "last_id": orjson.dumps(shown[-1].id if shown else None),
            "has_more": orjson.dumps(len(shown) < len(between)),
        }
    )


def listed(item: Item) -> bytes:
    """The item as it is shown: with its id, its type, and content in parts."""
    parts = {"id": orjson.dumps(item.id), "type": orjson.dumps(item.type), **members(item.content)}
    parts["id"] = orjson.dumps(item.id)
    if item.type == "message":
        if parts.get("content", b"").startswith(b'"'):
            parts["content"] = _text_part(parts["content"], by_assistant=parts.get("role") == b'"assistant"')
        parts.setdefault("status", b'"completed"')
    elif item.type.endswith(("_call", "_call_output")):
        parts.setdefault("status", b'"completed"')
    return join_object(parts)


def _text_part(text: bytes, *, by_assistant: bool) -> bytes:
    if by_assistant:
        return b'[{"type":"output_text","text":' + text + b',"annotations":[]}]'
    return b'[{"type":"input_text","text":' + text + b"}]"


def _place(places: dict[str, int], item_id: str | None, name: str, default: int) -> int:
    if item_id is None:
        return default
    place = places.get(item_id)
    if place is None:
        raise InvalidRequestError(f"Invalid '{name}': no item with id '{item_id[:100]}' in this list.", param=name)
    return place
