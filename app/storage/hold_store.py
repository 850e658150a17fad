"""Who may write to a conversation, and the turn that ends a hold. Must not know what a conversation shows of itself.

A hold is a lease by the database's clock: one writer at a time, on all replicas, and none that outlives its process.
That of a run is taken under the run's epoch, so that a former owner neither ends nor takes back the next one's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from sqlalchemy import BigInteger, Connection, bindparam, or_, select, update

from app.byte_budget import Reserve, reserve_nothing
from app.errors import StorageError
from app.state.items import distinct
from app.state.packing import pack
from app.state.records import Item, StoredResponse, Turn
from app.state.runs import takes_over
from app.storage import conversation_items, conversation_turns
from app.storage.clock import DatabaseTime
from app.storage.database import Database
from app.storage.refused import MOST_ITEMS, Refused
from app.storage.remove_items import RemoveItems
from app.storage.response_store import SaveResponse
from app.storage.row_locks import Row, keyed, named
from app.storage.tables import conversation_responses, conversations, responses
from app.storage.writer import Rank, Write, Writer

_HOLDS_AT_ONCE = 1000
# A failed turn said nothing, and what was cancelled was not said to the end.
_APPENDED = frozenset({"completed", "incomplete"})

_OWN = (conversations.c.project_id == bindparam("project_id"), conversations.c.id == bindparam("conversation_id"))
_FIND = select(conversations.c.key).where(*_OWN)
_SEIZE = select(
    conversations.c.key,
    conversations.c.item_count,
    conversations.c.holder,
    or_(conversations.c.held_until.is_(None), conversations.c.held_until <= DatabaseTime()).label("is_free"),
).where(*_OWN)
_TAKE = update(conversations).where(conversations.c.key == bindparam("hold_key"))
_HELD = (conversations.c.key == bindparam("hold_key"), conversations.c.holder == bindparam("hold_name"))
_LET_GO = update(conversations).where(*_HELD).values(holder=None, held_until=None)
_EXISTS = select(conversations.c.key).where(conversations.c.key == bindparam("hold_key"))
_KEEP_PLACE = conversation_responses.insert().from_select(
    ["response_key", "conversation_key", "last_turn_key"],
    select(
        responses.c.key, bindparam("conversation_key", type_=BigInteger), bindparam("last_turn_key", type_=BigInteger)
    ).where(responses.c.project_id == bindparam("project_id"), responses.c.id == bindparam("response_id")),
)


class Hold(NamedTuple):
    """A conversation's key, and the name of whoever may write to it."""

    key: int
    holder: str


class HoldStore:
    """The conversations as a call needs them that takes part in one."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def find(self, project_id: str, conversation_id: str) -> int:
        """The conversation's key. Raises NotFoundError."""
        own = {"project_id": project_id, "conversation_id": conversation_id}
        key: int | None = await self._database.read(lambda connection: connection.scalar(_FIND, own))
        if key is None:
            raise Refused.MISSING.error(conversation_id)
        return key

    async def acquire(self, project_id: str, conversation_id: str, holder: str, lease_seconds: int) -> Hold:
        """Hold the conversation for so long. Raises NotFoundError, and InvalidRequestError while another holds it."""
        key = await self._writer.submit(Acquire(project_id, conversation_id, holder, lease_seconds))
        if isinstance(key, Refused):
            raise key.error(conversation_id)
        return Hold(key, holder)

    async def extend(self, holds: Sequence[Hold], lease_seconds: int) -> None:
        """Have these last so long from now; those that were lost stay lost."""
        await self._writer.submit(Extend(holds, lease_seconds))

    async def release(self, hold: Hold) -> None:
        """End a hold, however late; one that was lost or ended before is nobody's error. Raises StorageError."""
        await self._writer.submit(Release(hold))

    async def save(self, turn: "SaveTurn") -> None:
        """Commit a turn: its response, its place in the conversation, and the end of the hold. Raises StorageError."""
        await self._writer.submit(turn)

    async def read_turns(self, key: int, reserve: Reserve = reserve_nothing) -> list[tuple[int, Turn]]:
        """All that stands in the conversation, oldest turn first, each with its key.

        `reserve` is called before much is read, here and below.
        """
        return await self._database.read_within(
            lambda connection, most: conversation_turns.read(connection, key, most), reserve
        )

    async def read_items(
        self, key: int, item_ids: Collection[str], reserve: Reserve = reserve_nothing
    ) -> dict[str, Item]:
        """Those of these items that stand in the conversation."""

        def read(connection: Connection, most: int) -> tuple[int, dict[str, Item]]:
            found = conversation_items.find(connection, key, item_ids)
            return conversation_turns.read_items(connection, found, item_ids, most)

        return await self._database.read_within(read, reserve)


def seize(
    connection: Connection, project_id: str, conversation_id: str, *, holder: str | None = None, adds: int = 0
) -> int | Refused:
    """The key of a conversation that nobody else holds, ours to the end of the transaction, with room for so many."""
    # Its row is ours by now: the writer has locked it.
    row = connection.execute(_SEIZE, {"project_id": project_id, "conversation_id": conversation_id}).one_or_none()
    if row is None:
        return Refused.MISSING
    if not row.is_free and not takes_over(holder, row.holder):
        return Refused.LOCKED
    key: int = row.key
    return Refused.FULL if adds and row.item_count + adds > MOST_ITEMS else key


@dataclass(frozen=True, slots=True)
class Acquire(Write[int | Refused]):
    """The beginning of a hold, and the conversation's key."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation_id: str
    holder: str
    lease_seconds: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (named("conversations", self.project_id, self.conversation_id),)

    def undo(self, result: int | Refused) -> "Release | None":
        return None if isinstance(result, Refused) else Release(Hold(result, self.holder))

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int | Refused]:
        return [_acquire(connection, write) for write in writes]


def _acquire(connection: Connection, write: Acquire) -> int | Refused:
    key = seize(connection, write.project_id, write.conversation_id, holder=write.holder, adds=1)
    if not isinstance(key, Refused):
        until = DatabaseTime() + write.lease_seconds
        values = {"holder": write.holder, "held_until": until, "used_at": conversation_turns.USED}
        connection.execute(_TAKE.values(values), {"hold_key": key})
    return key


@dataclass(frozen=True, slots=True)
class Extend(Write[None]):
    """More time for these holds."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_apart: ClassVar[bool] = True

    holds: Sequence[Hold]
    lease_seconds: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversations that are held."""
        return tuple([keyed("conversations", hold.key) for hold in self.holds])

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            for start in range(0, len(write.holds), _HOLDS_AT_ONCE):
                some = write.holds[start : start + _HOLDS_AT_ONCE]
                connection.execute(
                    update(conversations)
                    .where(
                        conversations.c.key.in_([hold.key for hold in some]),
                        conversations.c.holder.in_([hold.holder for hold in some]),
                    )
                    .values(held_until=DatabaseTime() + write.lease_seconds)
                )
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class Release(Write[None]):
    """The end of a hold that leaves nothing behind."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_made_late: ClassVar[bool] = True

    hold: Hold

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (keyed("conversations", self.hold.key),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            _let_go(connection, write.hold)
        return [None] * len(writes)


def _let_go(connection: Connection, hold: Hold) -> bool:
    """End the hold; False when it was lost, or its conversation is gone."""
    return connection.execute(_LET_GO, {"hold_key": hold.key, "hold_name": hold.holder}).rowcount > 0


@dataclass(frozen=True, slots=True)
class SaveTurn(Write[Sequence[str]]):
    """A response, and the turn that it is in its conversation; the ids that the turn's items have there.

    Where the hold was lost it raises StorageError, and neither is kept. A conversation that was deleted meanwhile gets
    no turn, and the response is kept.
    """

    rank: ClassVar[Rank] = Rank.TURNS

    response: SaveResponse
    hold: Hold
    last_turn_key: int
    turn: Turn | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (keyed("conversations", self.hold.key),)

    @property
    def unique_name(self) -> tuple[str, str]:
        """The response's."""
        return self.response.unique_name

    @classmethod
    def of(cls, response: StoredResponse, hold: Hold, last_turn_key: int, standing: Mapping[str, Item]) -> Self:
        """What this response leaves, made after the turn of this key.

        `standing` has what stands in the conversation under an id of this response's items.
        """
        turn = None
        if response.status in _APPENDED:
            turn = pack(response.status, response.account, distinct(response.items, standing))
        return cls(SaveResponse.of(response), hold, last_turn_key, turn)

    def undo(self, result: Sequence[str]) -> RemoveItems | None:
        # The response may stand: it is what was made, and nothing goes on from it by itself.
        return RemoveItems(self.hold.key, result) if result else None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Sequence[str]]:
        return [_save(connection, write) for write in writes]


def _save(connection: Connection, write: SaveTurn) -> Sequence[str]:
    is_held = _let_go(connection, write.hold)
    if not is_held and connection.scalar(_EXISTS, {"hold_key": write.hold.key}) is not None:
        raise StorageError("Another call has taken over this conversation meanwhile.", code="conversation_lost")
    SaveResponse.apply(connection, [write.response])
    project_id, response_id = write.response.identity
    connection.execute(
        _KEEP_PLACE,
        {
            "project_id": project_id,
            "response_id": response_id,
            "conversation_key": write.hold.key,
            "last_turn_key": write.last_turn_key,
        },
    )
    if not is_held or write.turn is None:
        return ()
    return conversation_turns.append(connection, write.hold.key, write.turn)
