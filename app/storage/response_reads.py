"""Stored turns as statements read them: measured first, and with their content once that may be read."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, bindparam, case, cast, func, select

from app.state.records import Chain, Item, Outline, Turn
from app.state.references import by_id
from app.storage.conversation_turns import read_context
from app.storage.picked_items import Wanted, pick
from app.storage.statements import Query
from app.storage.tables import conversation_responses, items, responses

# Ids asked for in one statement; drivers limit its parameters.
_IDS_AT_ONCE = 1000

_OUTLINE = msgspec.msgpack.Decoder(Outline)

_OWN = (
    responses.c.project_id == bindparam("project_id"),
    responses.c.id == bindparam("response_id"),
    responses.c.expires_at > bindparam("now"),
)

# Lengths are known without the content being read.
_size = cast(func.length(responses.c.content) + func.length(responses.c.outline), BigInteger)
_tip = select(responses.c.key, responses.c.parent_key, _size.label("size")).where(*_OWN).cte("chain", recursive=True)
# Ancestors are not asked for their expiry: a chain expires as one.
_chain = _tip.union_all(
    select(responses.c.key, responses.c.parent_key, _tip.c.size + _size).where(
        responses.c.key == _tip.c.parent_key, responses.c.project_id == bindparam("project_id")
    )
)
# What is over the measure is left out, and the whole is read again, once there is room for it.
_is_within = _chain.c.size <= bindparam("most")
# What begins a chain may have been made in a conversation, which then stands before it.
_place = conversation_responses
_READ_CHAIN = Query(
    select(
        _chain.c.key,
        _chain.c.parent_key,
        _chain.c.size,
        case((_is_within, responses.c.outline)),
        case((_is_within, responses.c.content)),
        _place.c.conversation_key,
        _place.c.last_turn_key,
    )
    .select_from(_chain)
    .join(responses, responses.c.key == _chain.c.key)
    .outerjoin(_place, (_place.c.response_key == _chain.c.key) & _chain.c.parent_key.is_(None))
)

_length = func.length(responses.c.body)
_READ_BODY = Query(select(_length, case((_length <= bindparam("most"), responses.c.body))).where(*_OWN))

# Of each id the newest, and in its turn the last.
_newest = (
    select(items.c.id, func.max(items.c.response_key).label("response_key"))
    .join(responses, responses.c.key == items.c.response_key)
    .where(
        items.c.project_id == bindparam("project_id"),
        items.c.id.in_(bindparam("item_ids", expanding=True)),
        responses.c.expires_at > bindparam("now"),
    )
    .group_by(items.c.id)
    .subquery("newest")
)
_FIND_ITEMS = (
    select(items.c.response_key, items.c.id, func.max(items.c.position))
    .join(_newest, (_newest.c.response_key == items.c.response_key) & (_newest.c.id == items.c.id))
    .group_by(items.c.response_key, items.c.id)
)
_of_keys = responses.c.key.in_(bindparam("keys", expanding=True))
_READ_OUTLINES = select(responses.c.key, responses.c.outline, func.length(responses.c.content)).where(_of_keys)
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
    named: dict[int, set[str]] = {}
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        for key, item_id, _ in connection.execute(
            _FIND_ITEMS, {"project_id": project_id, "item_ids": wanted[start : start + _IDS_AT_ONCE], "now": now}
        ):
            named.setdefault(key, set()).add(item_id)
    turns: dict[int, Wanted] = {}
    keys = list(named)
    for start in range(0, len(keys), _IDS_AT_ONCE):
        for key, raw, length in connection.execute(_READ_OUTLINES, {"keys": keys[start : start + _IDS_AT_ONCE]}):
            outline = _OUTLINE.decode(raw)
            # Several items of one turn may have one id.
            places = [place for place, item_id in enumerate(outline.ids) if item_id in named[key]]
            turns[key] = Wanted(key, outline, length, places)
    size, found = pick(connection, _READ_CONTENTS, list(turns.values()), most)
    resolved: dict[str, Item] = {}
    for key, turn in turns.items():
        items = [found[key, place] for place in turn.places if (key, place) in found]
        resolved.update(by_id([replace(item, served_by=turn.outline.account) for item in items]))
    return size, resolved
