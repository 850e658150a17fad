"""Stored turns as statements read them: measured first, and with their content once that may be read."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, Text, bindparam, case, cast, column, func, select, values

from app.state.records import Chain, Item, Outline, Turn
from app.state.references import by_id
from app.storage.conversation_turns import read_context
from app.storage.picked_items import Wanted, pick
from app.storage.statements import MOST_ROWS, Query, unindexed
from app.storage.storable import storable, storable_id
from app.storage.tables import conversation_responses, items, responses

# Keys asked for in one statement; drivers limit its parameters.
_KEYS_AT_ONCE = 1000

_OUTLINE = msgspec.msgpack.Decoder(Outline)

_OWN = (
    responses.c.project_id == bindparam("project_id"),
    responses.c.id == bindparam("response_id"),
    unindexed(responses.c.expires_at) > bindparam("now"),
)

# Lengths are known without the content being read.
_size = cast(func.length(responses.c.content) + func.length(responses.c.outline), BigInteger)
_most = bindparam("most", type_=BigInteger)
# What is over the measure is left out, and the whole is read again, once there is room for it.
_tip = (
    select(
        responses.c.key,
        responses.c.parent_key,
        _size.label("size"),
        case((_size <= _most, responses.c.outline)).label("outline"),
    )
    .where(*_OWN)
    .cte("chain", recursive=True)
)
_all_size = _tip.c.size + _size
# Ancestors are not asked for their expiry: a chain expires as one.
_chain = _tip.union_all(
    select(responses.c.key, responses.c.parent_key, _all_size, case((_all_size <= _most, responses.c.outline))).where(
        responses.c.key == _tip.c.parent_key, unindexed(responses.c.project_id) == bindparam("project_id")
    )
)
# Each a value of the turn's row: of a join PostgreSQL makes one of all responses, as long as they are few thousand.
_content = select(responses.c.content).where(responses.c.key == _chain.c.key).scalar_subquery()
# What begins a chain may have been made in a conversation, which then stands before it.
_place = conversation_responses
_is_first = _chain.c.parent_key.is_(None)
_READ_CHAIN = Query(
    select(
        _chain.c.key,
        _chain.c.parent_key,
        _chain.c.size,
        _chain.c.outline,
        case((_chain.c.size <= _most, _content)),
        *[
            case((_is_first, select(one).where(_place.c.response_key == _chain.c.key).scalar_subquery()))
            for one in (_place.c.conversation_key, _place.c.last_turn_key)
        ],
    )
)

# A chain is measured, and none of it read.
_NOTHING = -1

_length = func.length(responses.c.body)
_READ_BODY = Query(select(_length, case((_length <= bindparam("most"), responses.c.body))).where(*_OWN))

# Places for ids that are asked for in one statement; where there are fewer, some stay NULL.
_IDS = [f"id_{number}" for number in range(MOST_ROWS)]
_wanted = (
    values(column("id", Text), name="wanted").data([(bindparam(name, type_=Text),) for name in _IDS]).cte("wanted")
)
_expires_at = select(responses.c.expires_at).where(responses.c.key == items.c.response_key).scalar_subquery()
# Of each id the newest response that lives: the first of its entries in the index, taken from their end.
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


def read_body(connection: Connection, own: Mapping[str, Any], most: int) -> tuple[int, bytes | None]:
    """The length of a response object, and the object if it has no more bytes than that; (0, None) without one."""
    rows = _READ_BODY.fetch(connection, {**own, "most": most})
    return (rows[0][0], rows[0][1]) if rows else (0, None)


def read_chain(connection: Connection, own: Mapping[str, Any], most: int) -> tuple[int, Chain | None]:
    """The bytes of a response with its ancestors, and the chain if they are no more than that; (0, None) without."""
    # A turn is saved after its parent, under a larger key.
    rows = sorted(_READ_CHAIN.fetch(connection, {**own, "most": most}), key=itemgetter(0))
    if not rows or rows[0][1] is not None:
        return 0, None
    # What the oldest is with all that follow it.
    size = rows[0][2]
    *_, conversation_key, last_turn_key = rows[0]
    context: list[Turn] = []
    if conversation_key is not None:
        found = read_context(connection, conversation_key, last_turn_key, most)
        if found is None:
            return 0, None
        context_size, context = found
        size += context_size
    if size > most:
        return size, None
    context += [Turn(_OUTLINE.decode(outline), content) for _, _, _, outline, content, *_ in rows]
    return size, Chain(rows[-1][0], tuple(context))


def read_items(
    connection: Connection, project_id: str, wanted: Sequence[str], now: int, most: int
) -> tuple[int, dict[str, Item]]:
    """The bytes that reading these items takes, and the items if they are no more than that."""
    found_in = _find(connection, project_id, wanted, now)
    turns: dict[int, Wanted] = {}
    keys = list(found_in)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        rows = connection.execute(_READ_OUTLINES, {"keys": keys[start : start + _KEYS_AT_ONCE]}).all()
        for key, response_id, raw, length in rows:
            outline = _OUTLINE.decode(raw)
            # Several items of one turn may have one id.
            places = [place for place, item_id in enumerate(outline.ids) if item_id in found_in[key]]
            if made := set(places).intersection(outline.compactions):
                own = {"project_id": storable(project_id), "response_id": response_id, "now": now}
                if not read_chain(connection, own, _NOTHING)[0]:
                    # What it was made of has been deleted since.
                    places = [place for place in places if place not in made]
            turns[key] = Wanted(key, outline, length, places)
    size, found = pick(connection, _READ_CONTENTS, list(turns.values()), most)
    resolved: dict[str, Item] = {}
    for key, turn in turns.items():
        items = [found[key, place] for place in turn.places if (key, place) in found]
        resolved.update(by_id([replace(item, served_by=turn.outline.account) for item in items]))
    return size, resolved


def _find(connection: Connection, project_id: str, wanted: Sequence[str], now: int) -> dict[int, set[str]]:
    """Which of these items each of the project's responses has, by its key."""
    names = {storable_id(item_id): storable(item_id) for item_id in wanted}
    ids = list(names)
    found: dict[int, set[str]] = {}
    for start in range(0, len(ids), MOST_ROWS):
        some = dict(zip_longest(_IDS, ids[start : start + MOST_ROWS]), project_id=storable(project_id), now=now)
        for item_id, key in _FIND_ITEMS.fetch(connection, some):
            if key is not None:
                found.setdefault(key, set()).add(names[item_id])
    return found
