"""Read conversations as the history of calls; lock them while a turn is made, append the turn, release the lock.

A background run locks a conversation as a foreground call does.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from app.errors import StorageError
from app.relay.history.base import History
from app.runtime.byte_budget import Reserve
from app.runtime.compute_thread import ComputeThread
from app.state.records import Chain, Item, StoredResponse
from app.storage.conversations.locks import ConversationLock, ConversationLockStore
from app.storage.conversations.turn_commit import SaveTurn

_log = structlog.get_logger("antiphon.conversations")


class ReadConversation:
    """Read a conversation as the history of one call, and append nothing; other turns come from `history`."""

    def __init__(self, store: ConversationLockStore, history: History, key: int) -> None:
        self._store = store
        self._history = history
        self._key = key
        self._last_turn_key = 0
        self._standing: frozenset[str] = frozenset()

    async def read_history(self, reserve: Reserve) -> Chain | None:
        """Read all turns of the conversation as the chain that the new turn continues; None if it has none."""
        turns = await self._store.read_turns(self._key, reserve)
        if not turns:
            return None
        self._last_turn_key = turns[-1][0]
        self._standing = frozenset(item_id for _, turn in turns for item_id in turn.outline.ids)
        # The rows are the conversation's: the new turn's response continues no response.
        return Chain(None, tuple([turn for _, turn in turns]), is_stored=False)

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """Read the chain from the history behind."""
        return await self._history.read_chain(project_id, response_id, now, reserve)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        """Read these items from the conversation, and the missing ones from the history behind."""
        own = await self._store.read_items(self._key, item_ids, reserve)
        others = set(item_ids) - own.keys()
        return {**await self._history.read_items(project_id, others, now, reserve), **own} if others else own

    async def save(self, response: StoredResponse) -> None:
        """Save the turn in the history behind alone."""
        await self._history.save(response)

    async def release(self) -> None:
        """End the call's part in the conversation; called in every way out."""


@dataclass(frozen=True, slots=True)
class _OwnLocks:
    """Hold the locks of this process, and the locks that it no longer needs but could not release."""

    live: set[ConversationLock] = field(default_factory=set)
    owed: set[ConversationLock] = field(default_factory=set)


class LockedConversation(ReadConversation):
    """Append the call's turn to a conversation that nobody else writes to meanwhile, where its response is saved."""

    def __init__(
        self,
        store: ConversationLockStore,
        history: History,
        lock: ConversationLock,
        locks: _OwnLocks,
        compute_thread: ComputeThread,
    ) -> None:
        super().__init__(store, history, lock.key)
        self._compute_thread = compute_thread
        self._lock = lock
        self._locks = locks
        locks.live.add(lock)

    async def save(self, response: StoredResponse) -> None:
        """Commit the response, its place in the conversation and the release of the lock at once.

        Raises StorageError, also when the lock was lost to another call: then nothing is saved.
        """
        await self._store.save(await self.saving(response))
        self._locks.live.discard(self._lock)

    async def saving(self, response: StoredResponse) -> SaveTurn:
        """Make the write of `save`, for a caller that makes it part of its own commit. Raises StorageError."""
        repeated = self._standing.intersection([item.id for item in response.items])
        standing = await self._store.read_items(self._lock.key, repeated) if repeated else {}
        args = (response, self._lock, self._last_turn_key, standing)
        return (
            await self._compute_thread.run(response.size, SaveTurn.of, *args)
            if response.is_large
            else SaveTurn.of(*args)
        )

    async def release(self) -> None:
        """Release the lock, unless `save` did. Never fails: a release that fails now is repeated later."""
        if self._lock not in self._locks.live:
            return
        self._locks.live.discard(self._lock)
        try:
            await self._store.release(self._lock)
        except StorageError as error:
            self._locks.owed.add(self._lock)
            _log.warning("a hold was not ended", reason=error.message)


class Conversations:
    """Open conversations, and renew the locks that this process holds.

    `lease_seconds` is how long a lock outlives its process, by the database's clock.
    """

    def __init__(self, store: ConversationLockStore, compute_thread: ComputeThread, lease_seconds: int = 30) -> None:
        self._store = store
        self._compute_thread = compute_thread
        self._lease_seconds = lease_seconds
        self._locks = _OwnLocks()

    async def open(self, project_id: str, conversation_id: str, history: History) -> ReadConversation:
        """Open the conversation for a call that appends nothing to it. Raises NotFoundError."""
        return ReadConversation(self._store, history, await self._store.find(project_id, conversation_id))

    async def lock(self, project_id: str, conversation_id: str, history: History, holder: str) -> LockedConversation:
        """Open and lock the conversation for a call that appends its turn; `holder` names this call or run alone.

        A holder that has the lock already gets it again, and so does the next owner of a run (`lock_holder_of`). Raises
        NotFoundError, and InvalidRequestError (`conversation_locked`) while another holder has it. The lock has to be
        released in every way out.
        """
        lock = await self._store.acquire(project_id, conversation_id, holder, self._lease_seconds)
        return LockedConversation(self._store, history, lock, self._locks, self._compute_thread)

    @property
    def extend_seconds(self) -> float:
        """Return how often the locks of this process have to be extended: three times per lease."""
        return self._lease_seconds / 3

    async def extend(self) -> None:
        """Extend every lock of this process, and release the locks that are still owed. Raises StorageError."""
        if self._locks.live:
            await self._store.extend(tuple(self._locks.live), self._lease_seconds)
        for lock in tuple(self._locks.owed):
            await self._store.release(lock)
            self._locks.owed.discard(lock)
