"""Append, read and change the turns of a conversation, as statements on a connection that check no lock or owner."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, case, cast, func, insert, select, update

from app.state.items.turn_packing import without
from app.state.records import Item, Turn, read_outline
from app.storage.engine.clock import DatabaseTime
from app.storage.tables import conversation_turns as turns
from app.storage.tables import conversations
from app.storage.turns import conversation_compactions, conversation_item_index
from app.storage.turns.conversation_item_index import Measured
from app.storage.turns.item_reads import WantedItems, read_items_of_turns

# Keys asked for in one statement; drivers limit its parameters.
_KEYS_AT_ONCE = 1000

# To the hour: PostgreSQL updates a row in place while no indexed column changes.
_USE_SECONDS = 3600

USED_AT = func.coalesce(conversations.c.used_at, conversations.c.created_at)
"""SQL expression: when a conversation was last changed."""

USED: ColumnElement[Any] = case(
    (DatabaseTime() - _USE_SECONDS > USED_AT, DatabaseTime()), else_=conversations.c.used_at
)
"""SQL expression: the new value of `used_at` when a conversation is changed."""

_OF_CONVERSATION = turns.c.conversation_key == bindparam("conversation_key")
_UP_TO = (_OF_CONVERSATION, turns.c.key <= bindparam("last_key"))
# Lengths are known without the content being read.
_all = turns.alias("measured")
_size = (
    select(func.sum(cast(func.length(_all.c.content) + func.length(_all.c.outline), BigInteger)))
    .where(_all.c.conversation_key == bindparam("conversation_key"), _all.c.key <= bindparam("last_key"))
    .scalar_subquery()
)
_READ = (
    select(
        turns.c.key,
        _size,
        case((_size <= bindparam("most"), turns.c.outline)),
        case((_size <= bindparam("most"), turns.c.content)),
    )
    .where(*_UP_TO)
    .order_by(turns.c.key)
)
_READ_SOME = select(turns.c.key, turns.c.outline, turns.c.content).where(
    turns.c.key.in_(bindparam("keys", expanding=True))
)
_EXISTS = select(conversations.c.key).where(conversations.c.key == bindparam("conversation_key"))
_NEWEST = 2**63 - 1


def append(connection: Connection, conversation_key: int, turn: Turn) -> Sequence[str]:
    """Add a turn at the conversation's end; return the ids of its items there.

    An item whose id stands there already gets another: two clients may have used one id at the same time.
    """
    outline = conversation_item_index.distinct(connection, conversation_key, turn.outline)
    columns = _columns(Turn(outline, turn.content))
    added = insert(turns).values(conversation_key=conversation_key, **columns).returning(turns.c.key)
    key = connection.execute(added).scalar_one()
    conversation_item_index.add(connection, conversation_key, key, outline.ids)
    _count(connection, conversation_key, len(outline.ids), indexed_key=key)
    return outline.ids


def remove_item(connection: Connection, conversation_key: int, item_id: str) -> bool:
    """Remove the item from every turn that has it, with the compactions that were made of it; False when none has it.

    A turn stays, also without items.
    """
    having = conversation_item_index.find(connection, conversation_key, [item_id])
    found = {key: outline.ids.index(item_id) for key, outline, _ in having if item_id in outline.ids}
    if not found:
        return False
    first = min(found)
    compacted = conversation_compactions.find_turns(connection, conversation_key, first)
    # One at a time: each may be large.
    for key in sorted({*found, *compacted}):
        for _, turn in _read_some(connection, [key]):
            removed = [place for place in turn.outline.compactions if (key, place) > (first, found[first])]
            removed += [place for place, standing in enumerate(turn.outline.ids) if standing == item_id]
            left = without(turn, removed)
            connection.execute(update(turns).where(turns.c.key == key).values(_columns(left)))
            _count(connection, conversation_key, len(left.outline.ids) - len(turn.outline.ids))
            for place in removed:
                conversation_item_index.remove(connection, conversation_key, turn.outline.ids[place])
    conversation_compactions.remove_from_responses(connection, conversation_key, first)
    return True


def read(
    connection: Connection, conversation_key: int, most: int, last_key: int = _NEWEST
) -> tuple[int, list[tuple[int, Turn]]]:
    """Return the bytes of the turns up to this key, and the turns with their keys, oldest first; over `most` none."""
    given = {"conversation_key": conversation_key, "last_key": last_key, "most": most}
    rows = connection.execute(_READ, given).all()
    if not rows or rows[0][1] > most:
        return (rows[0][1] if rows else 0), []
    return rows[0][1], [(key, Turn(read_outline(outline), content)) for key, _, outline, content in rows]


def read_context(
    connection: Connection, conversation_key: int, last_key: int, most: int
) -> tuple[int, list[Turn]] | None:
    """Return, as `read` does, the turns that preceded a response; None when the conversation is gone."""
    if connection.execute(_EXISTS, {"conversation_key": conversation_key}).first() is None:
        return None
    size, found = read(connection, conversation_key, most, last_key)
    return size, [turn for _, turn in found]


def read_items(
    connection: Connection, found: Iterable[Measured], item_ids: Collection[str], most: int
) -> tuple[int, dict[str, Item]]:
    """Return the items with these ids in the turns that were found; of several with one id, the last.

    Returned with the bytes that reading them takes; over `most` without them.
    """
    wanted = set(item_ids)
    places: dict[str, tuple[int, int]] = {}
    turns_of: dict[int, WantedItems] = {}
    for key, outline, length in found:
        if not wanted.isdisjoint(outline.ids):
            turns_of[key] = WantedItems(key, outline, length, [])
            places.update({item_id: (key, place) for place, item_id in enumerate(outline.ids) if item_id in wanted})
    for key, place in places.values():
        turns_of[key].places.append(place)
    used = [turn for turn in turns_of.values() if turn.places]
    size, picked = read_items_of_turns(connection, _READ_SOME, used, most)
    return size, {
        item_id: replace(picked[at], served_by=turns_of[at[0]].outline.account or None)
        for item_id, at in places.items()
        if at in picked
    }


def _read_some(connection: Connection, keys: Sequence[int]) -> list[tuple[int, Turn]]:
    found: list[tuple[int, Turn]] = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        rows = connection.execute(_READ_SOME, {"keys": keys[start : start + _KEYS_AT_ONCE]})
        found += [(key, Turn(read_outline(outline), content)) for key, outline, content in rows]
    return found


def _columns(turn: Turn) -> dict[str, Any]:
    return {"outline": msgspec.msgpack.encode(turn.outline), "content": turn.content}


def _count(connection: Connection, conversation_key: int, more: int, **values: int) -> None:
    connection.execute(
        update(conversations)
        .where(conversations.c.key == conversation_key)
        .values(item_count=conversations.c.item_count + more, used_at=USED, **values)
    )
