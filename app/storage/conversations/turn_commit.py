"""Commit a response and its turn in a conversation together, and release the lock in the same write.

Whoever reads the response finds the turn in the conversation, and the next call gets the lock with the turn in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import BigInteger, Connection, bindparam, select

from app.errors import StorageError
from app.state.items.stored_form import distinct
from app.state.items.turn_packing import pack
from app.state.records import Item, StoredResponse, Turn
from app.storage.conversations.item_removal import RemoveItems
from app.storage.conversations.locks import ConversationLock, release_lock
from app.storage.responses.store import SaveResponse
from app.storage.tables import conversation_responses, conversations, responses
from app.storage.turns import conversation_turns
from app.storage.writer.row_locks import Row, keyed
from app.storage.writer.writer import Rank, Write

# A failed turn has no output, and a cancelled one no complete output.
_APPENDED = frozenset({"completed", "incomplete"})

_EXISTS = select(conversations.c.key).where(conversations.c.key == bindparam("lock_key"))
_INSERT_CONTEXT = conversation_responses.insert().from_select(
    ["response_key", "conversation_key", "last_turn_key"],
    select(
        responses.c.key, bindparam("conversation_key", type_=BigInteger), bindparam("last_turn_key", type_=BigInteger)
    ).where(responses.c.project_id == bindparam("project_id"), responses.c.id == bindparam("response_id")),
)


@dataclass(frozen=True, slots=True)
class SaveTurn(Write[Sequence[str]]):
    """Save a response and its turn in its conversation, release the lock, and return the ids of the turn's items.

    A lost lock raises StorageError, and nothing is saved. A conversation that was deleted meanwhile gets no turn, and
    the response is saved.
    """

    rank: ClassVar[Rank] = Rank.TURNS

    response: SaveResponse
    lock: ConversationLock
    last_turn_key: int
    turn: Turn | None

    @property
    def rows(self) -> tuple[Row, ...]:
        return (keyed("conversations", self.lock.key),)

    @property
    def unique_name(self) -> tuple[str, str]:
        return self.response.unique_name

    @classmethod
    def of(
        cls, response: StoredResponse, lock: ConversationLock, last_turn_key: int, standing: Mapping[str, Item]
    ) -> Self:
        """Make the write for a response that was made after the turn `last_turn_key`.

        `standing` has the conversation's items with the ids of this response's items.
        """
        turn = None
        if response.status in _APPENDED:
            turn = pack(response.status, response.account, distinct(response.items, standing))
        return cls(SaveResponse.of(response), lock, last_turn_key, turn)

    def undo(self, result: Sequence[str]) -> RemoveItems | None:
        # The response may stay: nothing continues it by itself.
        return RemoveItems(self.lock.key, result) if result else None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Sequence[str]]:
        return [_save(connection, write) for write in writes]


def _save(connection: Connection, write: SaveTurn) -> Sequence[str]:
    was_held = release_lock(connection, write.lock)
    if not was_held and connection.scalar(_EXISTS, {"lock_key": write.lock.key}) is not None:
        raise StorageError("Another call has taken over this conversation meanwhile.", code="conversation_lost")
    SaveResponse.apply(connection, [write.response])
    project_id, response_id = write.response.identity
    connection.execute(
        _INSERT_CONTEXT,
        {
            "project_id": project_id,
            "response_id": response_id,
            "conversation_key": write.lock.key,
            "last_turn_key": write.last_turn_key,
        },
    )
    if not was_held or write.turn is None:
        return ()
    return conversation_turns.append(connection, write.lock.key, write.turn)
