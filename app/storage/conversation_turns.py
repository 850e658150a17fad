"""The turns of a conversation, as statements on a connection. Must not know who holds it, or whose it is."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, insert, select, update

from app.state.packing import pack
from app.state.records import Item, Outline, Turn
from app.storage.tables import conversation_turns as turns
from app.storage.tables import conversations

_OUTLINE = msgspec.msgpack.Decoder(Outline)

# Keys asked for in one statement; drivers limit its parameters.
_KEYS_AT_ONCE = 1000

_OF_CONVERSATION = turns.c.conversation_key == bindparam("conversation_key")
_READ = (
    select(turns.c.key, turns.c.outline, turns.c.content)
    .where(_OF_CONVERSATION, turns.c.key <= bindparam("last_key"))
    .order_by(turns.c.key)
)
_READ_OUTLINES = select(turns.c.key, turns.c.outline).where(_OF_CONVERSATION).order_by(turns.c.key)
_READ_SOME = select(turns.c.key, turns.c.outline, turns.c.content).where(
    turns.c.key.in_(bindparam("keys", expanding=True))
)
_EXISTS = select(conversations.c.key).where(conversations.c.key == bindparam("conversation_key"))
_NEWEST = 2**63 - 1


def append(connection: Connection, conversation_key: int, turn: Turn) -> None:
    """Add a turn at the conversation's end."""
    connection.execute(insert(turns).values(conversation_key=conversation_key, **_columns(turn)))
    _count(connection, conversation_key, len(turn.outline.ids))


def remove_item(connection: Connection, conversation_key: int, item_id: str) -> bool:
    """Take the item out of every turn that has it; False when none does. A turn stays, also without items."""
    keys = [key for key, ids in read_ids(connection, conversation_key) if item_id in ids]
    for key, turn in _read_some(connection, keys):
        left = pack(turn.status, turn.account, [item for item in turn.items if item.id != item_id])
        connection.execute(update(turns).where(turns.c.key == key).values(_columns(left)))
        _count(connection, conversation_key, len(left.outline.ids) - len(turn.outline.ids))
    return bool(keys)


def read(connection: Connection, conversation_key: int, last_key: int = _NEWEST) -> list[tuple[int, Turn]]:
    """The turns up to this key, oldest first, each with its key."""
    rows = connection.execute(_READ, {"conversation_key": conversation_key, "last_key": last_key})
    return [(key, Turn(_OUTLINE.decode(outline), content)) for key, outline, content in rows]


def read_context(connection: Connection, conversation_key: int, last_key: int) -> list[Turn] | None:
    """What a response was told that was made after this turn; None when the conversation is gone."""
    if connection.execute(_EXISTS, {"conversation_key": conversation_key}).first() is None:
        return None
    return [turn for _, turn in read(connection, conversation_key, last_key)]


def read_ids(connection: Connection, conversation_key: int) -> list[tuple[int, tuple[str, ...]]]:
    """The ids of each turn's items, oldest turn first, with the turn's key; no content is read."""
    rows = connection.execute(_READ_OUTLINES, {"conversation_key": conversation_key})
    return [(key, _OUTLINE.decode(outline).ids) for key, outline in rows]


def read_items(connection: Connection, conversation_key: int, item_ids: Collection[str]) -> dict[str, Item]:
    """Those of these items that stand in the conversation; of several with one id, the last."""
    wanted = set(item_ids)
    places = {
        item_id: key for key, ids in read_ids(connection, conversation_key) for item_id in wanted.intersection(ids)
    }
    found: dict[str, Item] = {}
    for key, turn in _read_some(connection, sorted(set(places.values()))):
        for item in turn.items:
            if places.get(item.id) == key:
                found[item.id] = replace(item, served_by=turn.account or None)
    return found


def _read_some(connection: Connection, keys: Sequence[int]) -> list[tuple[int, Turn]]:
    found: list[tuple[int, Turn]] = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        rows = connection.execute(_READ_SOME, {"keys": keys[start : start + _KEYS_AT_ONCE]})
        found += [(key, Turn(_OUTLINE.decode(outline), content)) for key, outline, content in rows]
    return found


def _columns(turn: Turn) -> dict[str, Any]:
    return {"outline": msgspec.msgpack.encode(turn.outline), "content": turn.content}


def _count(connection: Connection, conversation_key: int, more: int) -> None:
    connection.execute(
        update(conversations)
        .where(conversations.c.key == conversation_key)
        .values(item_count=conversations.c.item_count + more)
    )
