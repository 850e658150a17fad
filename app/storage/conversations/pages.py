"""Read a page of a conversation's items: only turns from where the page begins, and no more than it shows.

A position is a turn's key and a place in the turn. Turns follow each other by their keys.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from app.state.items.item_pages import PageQuery, fitting, unknown_cursor
from app.state.records import Item
from app.storage.tables import conversation_turns as turns
from app.storage.turns import conversation_item_index, conversation_turns
from app.storage.turns.conversation_item_index import MEASURES, Measured, measured

# Turns whose outlines are read at once: twice as many each time.
_FIRST_READ, _LARGEST_READ = 8, 256
_BEFORE_ALL, _BEHIND_ALL = (0, -1), (2**63 - 1, 0)

_OF_CONVERSATION = turns.c.conversation_key == bindparam("conversation_key")
_READ_FORWARDS = (
    select(*MEASURES)
    .where(_OF_CONVERSATION, turns.c.key >= bindparam("first_key"))
    .order_by(turns.c.key)
    .limit(bindparam("count"))
)
_READ_BACKWARDS = (
    select(*MEASURES)
    .where(_OF_CONVERSATION, turns.c.key <= bindparam("first_key"))
    .order_by(turns.c.key.desc())
    .limit(bindparam("count"))
)


class _Place(NamedTuple):
    """Locate an item by its turn and place."""

    turn: Measured
    place: int
    item_id: str
    length: int

    @property
    def position(self) -> tuple[int, int]:
        return self.turn.key, self.place


def read_page(
    connection: Connection, conversation_key: int, query: PageQuery, most: int
) -> tuple[int, tuple[list[Item], bool]]:
    """Return the bytes of a page, its items and whether more follow; over `most` no items.

    A page of large items has fewer of them than it could have. Raises InvalidRequestError for an unknown cursor.
    """
    after = _position(connection, conversation_key, "after", query.after)
    before = _position(connection, conversation_key, "before", query.before)
    start, end = (before, None) if query.is_read_back else (after, before)
    is_forwards = query.ascending != query.is_read_back
    chosen: list[_Place] = []
    for place in _places(connection, conversation_key, start, is_forwards=is_forwards):
        is_over = end is not None and (place.position >= end if is_forwards else place.position <= end)
        if is_over:
            break
        chosen.append(place)
        if len(chosen) > query.limit:
            break
    shown = chosen[: query.limit]
    shown = shown[: fitting([place.length for place in shown])]
    has_more = len(shown) < len(chosen)
    if query.is_read_back:
        shown.reverse()
    turns_of = {place.turn.key: place.turn for place in shown}
    ids = [place.item_id for place in shown]
    size, found = conversation_turns.read_items(connection, turns_of.values(), ids, most)
    # An item may have been deleted since.
    return size, ([found[item_id] for item_id in ids if item_id in found], has_more)


def _position(connection: Connection, conversation_key: int, name: str, item_id: str | None) -> tuple[int, int] | None:
    """Find the position of a cursor's item. Raises InvalidRequestError for an unknown one."""
    if item_id is None:
        return None
    for key, outline, _ in reversed(conversation_item_index.find(connection, conversation_key, [item_id])):
        if item_id in outline.ids:
            return key, outline.ids.index(item_id)
    raise unknown_cursor(name, item_id)


def _places(
    connection: Connection, conversation_key: int, start: tuple[int, int] | None, *, is_forwards: bool
) -> Iterator[_Place]:
    """Walk the conversation's items behind `start`, in this direction."""
    position = start or (_BEFORE_ALL if is_forwards else _BEHIND_ALL)
    count = _FIRST_READ
    while True:
        given = {"conversation_key": conversation_key, "first_key": position[0], "count": count}
        found = measured(connection.execute(_READ_FORWARDS if is_forwards else _READ_BACKWARDS, given))
        for turn in found:
            sizes = zip(turn.outline.ids, turn.outline.lengths, strict=True)
            places = [_Place(turn, place, *size) for place, size in enumerate(sizes)]
            for one in places if is_forwards else reversed(places):
                if (one.position > position) if is_forwards else (one.position < position):
                    yield one
        if len(found) < count:
            return
        last = found[-1].key
        position = (last + 1, -1) if is_forwards else (last, -1)
        count = min(2 * count, _LARGEST_READ)
