"""Index the items of conversations by id, so that an item's turn is found without a look at the others.

A release without this table goes on adding turns during a rolling upgrade. The index knows the turns up to the
conversation's `indexed_key`; items of later turns are found by their outlines, until the next turn is added.
"""

from collections.abc import Collection, Container, Iterable
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, Text, bindparam, cast, column, delete, func, select, update, values

from app.ids import new_item_id
from app.state.records import Outline, read_outline
from app.storage.engine.statements import FEW_SIZES, MOST_ROWS, Insertion, Query
from app.storage.engine.storable_text import storable_id
from app.storage.tables import conversation_items as items
from app.storage.tables import conversation_turns as turns
from app.storage.tables import conversations

# Places for ids that are asked for in one statement; where there are fewer, some stay NULL.
_IDS = [f"id_{number}" for number in range(MOST_ROWS)]
_wanted = (
    values(column("id", Text), name="wanted").data([(bindparam(name, type_=Text),) for name in _IDS]).cte("wanted")
)
_FIND = Query(
    select(
        select(items.c.turn_key)
        .where(items.c.conversation_key == bindparam("conversation_key"), items.c.id == _wanted.c.id)
        .scalar_subquery()
    ).select_from(_wanted)
)
_ADD = Insertion(
    items.name,
    [one.name for one in items.columns],
    FEW_SIZES,
    # An item that a release without the index removed from a turn is still indexed.
    " ON CONFLICT (conversation_key, id) DO UPDATE SET turn_key = excluded.turn_key",
)
_REMOVE = delete(items).where(
    items.c.conversation_key == bindparam("of_conversation"), items.c.id == bindparam("item_id")
)

MEASURES = (turns.c.key, turns.c.outline, cast(func.length(turns.c.content), BigInteger))
"""The columns of a turn that are read without its content."""
# Keys asked for in one statement; drivers limit its parameters.
_KEYS_AT_ONCE = 1000
_READ_SOME = select(*MEASURES).where(turns.c.key.in_(bindparam("keys", expanding=True)))
_indexed_key = (
    select(func.coalesce(conversations.c.indexed_key, 0))
    .where(conversations.c.key == bindparam("conversation_key"))
    .scalar_subquery()
)
_READ_LATER = (
    select(*MEASURES)
    .where(turns.c.conversation_key == bindparam("conversation_key"), turns.c.key > _indexed_key)
    .order_by(turns.c.key)
)
_REPLACE = update(turns).where(turns.c.key == bindparam("turn_key")).values(outline=bindparam("renamed"))
_IS_INDEXED = (
    update(conversations)
    .where(conversations.c.key == bindparam("of_conversation"))
    .values(indexed_key=bindparam("turn_key"))
)


class Measured(NamedTuple):
    """Describe a turn without its content: its outline, and the `length` of its content in bytes."""

    key: int
    outline: Outline
    length: int


def find(connection: Connection, conversation_key: int, item_ids: Collection[str]) -> list[Measured]:
    """Return the turns in which these items stand, oldest first, and perhaps other turns."""
    if not item_ids:
        return []
    found = {turn.key: turn for turn in _find_indexed(connection, conversation_key, item_ids)}
    found |= {turn.key: turn for turn in _read_later(connection, conversation_key)}
    return [found[key] for key in sorted(found)]


def distinct(connection: Connection, conversation_key: int, outline: Outline) -> Outline:
    """Give a new id to each item of a turn to be added whose id the conversation already has; return its outline."""
    _index_later(connection, conversation_key)
    turns_of = _find_indexed(connection, conversation_key, outline.ids)
    return _renamed(outline, {item_id for turn in turns_of for item_id in turn.outline.ids})


def add(connection: Connection, conversation_key: int, turn_key: int, ids: Collection[str]) -> None:
    """Index the items of the turn that was added last."""
    _ADD.execute(connection, [(conversation_key, storable_id(item_id), turn_key) for item_id in ids])


def remove(connection: Connection, conversation_key: int, item_id: str) -> None:
    """Remove an item from the index."""
    connection.execute(_REMOVE, {"of_conversation": conversation_key, "item_id": item_id})


def measured(rows: Iterable[Any]) -> list[Measured]:
    """Decode rows of MEASURES."""
    return [Measured(key, read_outline(outline), length) for key, outline, length in rows]


def _find_indexed(connection: Connection, conversation_key: int, item_ids: Collection[str]) -> list[Measured]:
    ids = [storable_id(item_id) for item_id in item_ids]
    found: set[int] = set()
    for start in range(0, len(ids), MOST_ROWS):
        some = dict(zip_longest(_IDS, ids[start : start + MOST_ROWS]), conversation_key=conversation_key)
        found.update(key for (key,) in _FIND.fetch(connection, some) if key is not None)
    keys = list(found)
    read: list[Measured] = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        read += measured(connection.execute(_READ_SOME, {"keys": keys[start : start + _KEYS_AT_ONCE]}))
    return read


def _read_later(connection: Connection, conversation_key: int) -> list[Measured]:
    return measured(connection.execute(_READ_LATER, {"conversation_key": conversation_key}))


def _index_later(connection: Connection, conversation_key: int) -> None:
    """Index the turns that a release without the index has added."""
    of_items: dict[str, int] = {}
    for turn in (later := _read_later(connection, conversation_key)):
        # Two clients could use one id at the same time.
        outline = _renamed(turn.outline, of_items)
        if outline is not turn.outline:
            connection.execute(_REPLACE, {"turn_key": turn.key, "renamed": msgspec.msgpack.encode(outline)})
        of_items.update(dict.fromkeys(outline.ids, turn.key))
    if later:
        rows = [(conversation_key, storable_id(item_id), key) for item_id, key in of_items.items()]
        _ADD.execute(connection, rows)
        connection.execute(_IS_INDEXED, {"of_conversation": conversation_key, "turn_key": later[-1].key})


def _renamed(outline: Outline, taken: Container[str]) -> Outline:
    if not any(item_id in taken for item_id in outline.ids):
        return outline
    ids = [
        new_item_id(named) if item_id in taken else item_id
        for item_id, named in zip(outline.ids, outline.types, strict=True)
    ]
    return replace(outline, ids=tuple(ids))
