"""Look items up by their ids among a project's living responses; of several with one id, the newest is found."""

from collections.abc import Sequence
from itertools import zip_longest

from msgspec.structs import replace
from sqlalchemy import Connection, Text, bindparam, column, func, select, values

from app.state.items.references import by_id
from app.state.records import Item, read_outline
from app.storage.engine.statements import MOST_ROWS, Query
from app.storage.engine.storable_text import storable, storable_id
from app.storage.responses.chain_reads import read_chain
from app.storage.tables import items, responses
from app.storage.turns.item_reads import WantedItems, read_items_of_turns

# Keys asked for in one statement; drivers limit its parameters.
_KEYS_AT_ONCE = 1000


# Places for ids that are asked for in one statement; where there are fewer, some stay NULL.
_IDS = [f"id_{number}" for number in range(MOST_ROWS)]
_wanted = (
    values(column("id", Text), name="wanted").data([(bindparam(name, type_=Text),) for name in _IDS]).cte("wanted")
)
_expires_at = select(responses.c.expires_at).where(responses.c.key == items.c.response_key).scalar_subquery()
# For each id the newest living response: the first of the id's entries in the index, from the end.
_FIND_ITEMS = Query(
    select(
        _wanted.c.id,
        select(items.c.response_key)
        .where(
            items.c.project_id == bindparam("project_id"),
            items.c.id == _wanted.c.id,
            _expires_at > bindparam("now"),
        )
        .order_by(items.c.response_key.desc())
        .suffix_with("LIMIT 1")
        .scalar_subquery(),
    )
)
_of_keys = responses.c.key.in_(bindparam("keys", expanding=True))
_READ_OUTLINES = select(responses.c.key, responses.c.id, responses.c.outline, func.length(responses.c.content)).where(
    _of_keys
)
_READ_CONTENTS = select(responses.c.key, responses.c.outline, responses.c.content).where(_of_keys)

# For `most`: measure a chain and read none of it.
_NOTHING = -1


def read_items(
    connection: Connection, project_id: str, wanted: Sequence[str], now: int, most: int
) -> tuple[int, dict[str, Item]]:
    """Return the bytes that reading these items takes, and the items if they are up to `most`."""
    found_in = _find(connection, project_id, wanted, now)
    turns: dict[int, WantedItems] = {}
    keys = list(found_in)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        rows = connection.execute(_READ_OUTLINES, {"keys": keys[start : start + _KEYS_AT_ONCE]}).all()
        for key, response_id, raw, length in rows:
            outline = read_outline(raw)
            # Several items of one turn may have one id.
            places = [place for place, item_id in enumerate(outline.ids) if item_id in found_in[key]]
            if made := set(places).intersection(outline.compactions):
                own = {"project_id": storable(project_id), "response_id": response_id, "now": now}
                if not read_chain(connection, own, _NOTHING)[0]:
                    # An item that was compacted has been deleted since.
                    places = [place for place in places if place not in made]
            turns[key] = WantedItems(key, outline, length, places)
    size, found = read_items_of_turns(connection, _READ_CONTENTS, list(turns.values()), most)
    resolved: dict[str, Item] = {}
    for key, turn in turns.items():
        items = [found[key, place] for place in turn.places if (key, place) in found]
        resolved.update(by_id([replace(item, served_by=turn.outline.account) for item in items]))
    return size, resolved


def _find(connection: Connection, project_id: str, wanted: Sequence[str], now: int) -> dict[int, set[str]]:
    """Find which of these items each of the project's responses has; return their ids by the response's key."""
    names = {storable_id(item_id): storable(item_id) for item_id in wanted}
    ids = list(names)
    found: dict[int, set[str]] = {}
    for start in range(0, len(ids), MOST_ROWS):
        some = dict(zip_longest(_IDS, ids[start : start + MOST_ROWS]), project_id=storable(project_id), now=now)
        for item_id, key in _FIND_ITEMS.fetch(connection, some):
            if key is not None:
                found.setdefault(key, set()).add(names[item_id])
    return found
