"""Read a response with its ancestors by one statement, which measures first and returns content only where it fits."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, case, cast, func, select

from app.state.records import Chain, Turn, read_outline
from app.storage.engine.statements import Query, unindexed
from app.storage.tables import conversation_responses, responses
from app.storage.turns.conversation_turns import read_context

_OWN = (
    responses.c.project_id == bindparam("project_id"),
    responses.c.id == bindparam("response_id"),
    unindexed(responses.c.expires_at) > bindparam("now"),
)

# Lengths are known without the content being read.
_size = cast(func.length(responses.c.content) + func.length(responses.c.outline), BigInteger)
_most = bindparam("most", type_=BigInteger)
# Content beyond `most` is left out; the caller reads all again once that much is reserved.
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
# A scalar subquery for each turn: a join PostgreSQL would make with all responses, while they are few thousand.
_content = select(responses.c.content).where(responses.c.key == _chain.c.key).scalar_subquery()
# The first turn of a chain may have been made in a conversation, whose turns then precede it.
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


def read_chain(connection: Connection, own: Mapping[str, Any], most: int) -> tuple[int, Chain | None]:
    """Return the bytes of a response with its ancestors, and the chain if they are up to `most`; (0, None) without."""
    # A turn is saved after its parent, under a larger key.
    rows = sorted(_READ_CHAIN.fetch(connection, {**own, "most": most}), key=itemgetter(0))
    if not rows or rows[0][1] is not None:
        return 0, None
    # The size of the oldest turn includes all that follow.
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
    context += [Turn(read_outline(outline), content) for _, _, _, outline, content, *_ in rows]
    return size, Chain(rows[-1][0], tuple(context))
