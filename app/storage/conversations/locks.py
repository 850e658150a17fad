"""Lock a conversation for its one writer: acquire, extend and release the lock.

A lock is a lease by the database's clock: one writer at a time over all replicas, and no lock outlives its process by
more than the lease. A run's lock has the run's epoch in its holder, so that a former owner neither releases nor takes
back the lock of the next one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from sqlalchemy import Connection, bindparam, or_, select, update

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.state.records import Item, Turn
from app.state.runs import takes_over
from app.storage.conversations.errors import MOST_ITEMS, ConversationRefusal
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database
from app.storage.tables import conversations
from app.storage.turns import conversation_item_index, conversation_turns
from app.storage.writer.row_locks import Row, keyed, named
from app.storage.writer.writer import Rank, Write, Writer

_LOCKS_AT_ONCE = 1000

_OWN = (conversations.c.project_id == bindparam("project_id"), conversations.c.id == bindparam("conversation_id"))
_FIND = select(conversations.c.key).where(*_OWN)
_READ_LOCK = select(
    conversations.c.key,
    conversations.c.item_count,
    conversations.c.holder,
    or_(conversations.c.held_until.is_(None), conversations.c.held_until <= DatabaseTime()).label("is_free"),
).where(*_OWN)
_ACQUIRE = update(conversations).where(conversations.c.key == bindparam("lock_key"))
_IS_HOLDER = (conversations.c.key == bindparam("lock_key"), conversations.c.holder == bindparam("lock_holder"))
_RELEASE = update(conversations).where(*_IS_HOLDER).values(holder=None, held_until=None)


class ConversationLock(NamedTuple):
    """Name a locked conversation by its key, and the lock's holder."""

    key: int
    holder: str


class ConversationLockStore:
    """Lock, read and write conversations for the calls that take part in them."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def find(self, project_id: str, conversation_id: str) -> int:
        """Return the conversation's key. Raises NotFoundError."""
        own = {"project_id": project_id, "conversation_id": conversation_id}
        key: int | None = await self._database.read(lambda connection: connection.scalar(_FIND, own))
        if key is None:
            raise ConversationRefusal.MISSING.error(conversation_id)
        return key

    async def acquire(self, project_id: str, conversation_id: str, holder: str, lease_seconds: int) -> ConversationLock:
        """Lock the conversation for so long. Raises NotFoundError; InvalidRequestError while another has the lock."""
        key = await self._writer.submit(AcquireLock(project_id, conversation_id, holder, lease_seconds))
        if isinstance(key, ConversationRefusal):
            raise key.error(conversation_id)
        return ConversationLock(key, holder)

    async def extend(self, locks: Sequence[ConversationLock], lease_seconds: int) -> None:
        """Extend these locks to so long from now; a lost lock stays lost."""
        await self._writer.submit(ExtendLocks(locks, lease_seconds))

    async def release(self, lock: ConversationLock) -> None:
        """Release a lock, however late; one that was lost or released before is no error. Raises StorageError."""
        await self._writer.submit(ReleaseLock(lock))

    async def save(self, turn: Write[Sequence[str]]) -> None:
        """Commit a turn, and with it the release of the lock (`turn_commit.SaveTurn`). Raises StorageError."""
        await self._writer.submit(turn)

    async def read_turns(self, key: int, reserve: Reserve = reserve_nothing) -> list[tuple[int, Turn]]:
        """Return all turns of the conversation, oldest first, each with its key.

        `reserve` is called before much is read, here and below.
        """
        return await self._database.read_within(
            lambda connection, most: conversation_turns.read(connection, key, most), reserve
        )

    async def read_items(
        self, key: int, item_ids: Collection[str], reserve: Reserve = reserve_nothing
    ) -> dict[str, Item]:
        """Return the items with these ids that stand in the conversation."""

        def read(connection: Connection, most: int) -> tuple[int, dict[str, Item]]:
            found = conversation_item_index.find(connection, key, item_ids)
            return conversation_turns.read_items(connection, found, item_ids, most)

        return await self._database.read_within(read, reserve)


def lock_for_change(
    connection: Connection, project_id: str, conversation_id: str, *, holder: str | None = None, adds: int = 0
) -> int | ConversationRefusal:
    """Check that no other holder has the lock and that `adds` items fit; return the key, or why not.

    The conversation's row stays locked to the end of the transaction.
    """
    # The writer has locked the row already.
    row = connection.execute(_READ_LOCK, {"project_id": project_id, "conversation_id": conversation_id}).one_or_none()
    if row is None:
        return ConversationRefusal.MISSING
    if not row.is_free and not takes_over(holder, row.holder):
        return ConversationRefusal.LOCKED
    key: int = row.key
    return ConversationRefusal.FULL if adds and row.item_count + adds > MOST_ITEMS else key


def release_lock(connection: Connection, lock: ConversationLock) -> bool:
    """Release the lock; False when it was lost, or its conversation is gone."""
    return connection.execute(_RELEASE, {"lock_key": lock.key, "lock_holder": lock.holder}).rowcount > 0


@dataclass(frozen=True, slots=True)
class AcquireLock(Write[int | ConversationRefusal]):
    """Acquire a lock; the result is the conversation's key, or why it is refused."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation_id: str
    holder: str
    lease_seconds: int

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("conversations", self.project_id, self.conversation_id),)

    def undo(self, result: int | ConversationRefusal) -> "ReleaseLock | None":
        return None if isinstance(result, ConversationRefusal) else ReleaseLock(ConversationLock(result, self.holder))

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int | ConversationRefusal]:
        return [_acquire(connection, write) for write in writes]


def _acquire(connection: Connection, write: AcquireLock) -> int | ConversationRefusal:
    key = lock_for_change(connection, write.project_id, write.conversation_id, holder=write.holder, adds=1)
    if not isinstance(key, ConversationRefusal):
        until = DatabaseTime() + write.lease_seconds
        values = {"holder": write.holder, "held_until": until, "used_at": conversation_turns.USED}
        connection.execute(_ACQUIRE.values(values), {"lock_key": key})
    return key


@dataclass(frozen=True, slots=True)
class ExtendLocks(Write[None]):
    """Extend these locks, unless they were lost."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_apart: ClassVar[bool] = True

    locks: Sequence[ConversationLock]
    lease_seconds: int

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple([keyed("conversations", lock.key) for lock in self.locks])

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            for start in range(0, len(write.locks), _LOCKS_AT_ONCE):
                some = write.locks[start : start + _LOCKS_AT_ONCE]
                connection.execute(
                    update(conversations)
                    .where(
                        conversations.c.key.in_([lock.key for lock in some]),
                        conversations.c.holder.in_([lock.holder for lock in some]),
                    )
                    .values(held_until=DatabaseTime() + write.lease_seconds)
                )
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class ReleaseLock(Write[None]):
    """Release a lock, and write no turn."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_made_late: ClassVar[bool] = True

    lock: ConversationLock

    @property
    def rows(self) -> tuple[Row, ...]:
        return (keyed("conversations", self.lock.key),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            release_lock(connection, write.lock)
        return [None] * len(writes)
