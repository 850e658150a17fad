"""Find the compactions that were made of an item of a conversation: deleting the item removes them, too.

A compaction repeats what stood before it, in other words or word for word. The compacted items are still in the
conversation, and are sent again until the next compaction. A compaction may stand in the conversation, in a response
made there, which keeps a copy of its own, and in all responses that continue it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Boolean, Connection, LargeBinary, bindparam, delete, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from app.state.items.turn_packing import without
from app.state.records import Turn, read_outline
from app.storage.tables import conversation_responses, conversation_turns, items, responses


class _Contains(FunctionElement[bool]):
    """Test in SQL whether the first byte string contains the second."""

    type = Boolean()
    inherit_cache = True


@compiles(_Contains, "sqlite")
def _in_sqlite(element: _Contains, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)}) > 0"


@compiles(_Contains, "postgresql")
def _in_postgresql(element: _Contains, compiler: Any, **options: Any) -> str:
    return f'pg_catalog."position"({compiler.process(element.clauses, **options)}) > 0'


# The outline of every turn with a compaction contains this.
_NAMED = bindparam("named", b"compaction", type_=LargeBinary)
_LATER = (
    select(conversation_turns.c.key)
    .where(
        conversation_turns.c.conversation_key == bindparam("conversation_key"),
        conversation_turns.c.key >= bindparam("turn_key"),
        _Contains(conversation_turns.c.outline, _NAMED),
    )
    .order_by(conversation_turns.c.key)
)
_made = (
    select(conversation_responses.c.response_key.label("key"))
    .where(
        conversation_responses.c.conversation_key == bindparam("conversation_key"),
        conversation_responses.c.last_turn_key >= bindparam("turn_key"),
    )
    .cte("made", recursive=True)
)
_continuing = _made.union_all(select(responses.c.key).where(responses.c.parent_key == _made.c.key))
_MADE_LATER = (
    select(responses.c.key)
    .join(_continuing, _continuing.c.key == responses.c.key)
    .where(_Contains(responses.c.outline, _NAMED))
    .order_by(responses.c.key)
    .with_for_update(of=responses)
)
_READ = select(responses.c.outline, responses.c.content).where(responses.c.key == bindparam("response_key"))
_REPLACE = (
    update(responses)
    .where(responses.c.key == bindparam("response_key"))
    .values(outline=bindparam("left"), content=bindparam("left_content"))
)
_FORGET = delete(items).where(items.c.response_key == bindparam("of_response"), items.c.position == bindparam("place"))


def find_turns(connection: Connection, conversation_key: int, turn_key: int) -> Sequence[int]:
    """Return the keys of the conversation's turns, from this one on, that may have a compaction."""
    given = {"conversation_key": conversation_key, "turn_key": turn_key}
    return connection.scalars(_LATER, given).all()


def remove_from_responses(connection: Connection, conversation_key: int, turn_key: int) -> None:
    """Remove the compactions from the responses that were sent this turn, and from all that continue them.

    The body of such a response stays as the client got it; the content that is sent on is without the compactions.
    """
    given = {"conversation_key": conversation_key, "turn_key": turn_key}
    # One at a time: each may be large.
    for key in connection.scalars(_MADE_LATER, given).all():
        outline, content = connection.execute(_READ, {"response_key": key}).one()
        turn = Turn(read_outline(outline), content)
        removed = turn.outline.compactions
        if not removed:
            continue
        left = without(turn, removed)
        encoded = msgspec.msgpack.encode(left.outline)
        connection.execute(_REPLACE, {"response_key": key, "left": encoded, "left_content": left.content})
        connection.execute(_FORGET, [{"of_response": key, "place": place} for place in removed])
