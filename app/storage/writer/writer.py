"""Commit the writes of a process: all that wait go into one transaction, which waits for no locked row (ADR 24).

On PostgreSQL there are two writing connections. The first commits the writes whose rows are free. The others go to
the second, which may wait, and so do the writes of periodic tasks and of administrators.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from functools import partial
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog
from sqlalchemy import Connection

from app.errors import StorageError
from app.runtime import storage_time
from app.storage.engine.database import Database
from app.storage.writer.group_commit import commit
from app.storage.writer.row_locks import Row
from app.storage.writer.write_queue import LARGEST_GROUP, Pending, WriteQueue, late

T = TypeVar("T")

# Turns of the loop for which a group may wait, while each brings more writes.
_MOST_TURNS = 8
# How often an undo is tried, and the seconds between two attempts.
_MOST_UNDOINGS = 300
_UNDOING_SECONDS = 1.0

_log = structlog.get_logger("antiphon.writer")


class Rank(IntEnum):
    """Order the writes of a transaction by their resource, and so the locks that cannot be taken before.

    Within a rank they go by their `unique_name`, then by their kind.
    """

    LIMITS = auto()
    RUNS = auto()
    CONVERSATIONS = auto()
    REMOVALS = auto()
    TURNS = auto()
    IDEMPOTENCY = auto()
    USAGE = auto()
    CONDITIONS = auto()
    PROJECTS = auto()
    KEYS = auto()
    UPSTREAMS = auto()
    META = auto()


class Write(ABC, Generic[T]):
    """Change the database, with a result of type T. Subclasses are dataclasses beside their store."""

    rank: ClassVar[Rank]
    """Its place in a transaction."""

    is_apart: ClassVar[bool] = False
    """Whether it has a transaction of its own, on the connection that may wait. It locks rows of each table in the
    order of their keys, or skips locked rows."""

    is_made_late: ClassVar[bool] = False
    """Whether it is committed however late, also after its caller was told of a failure: it only releases something."""

    # Whether content is removed when the result is true, so that SQLite's log has to be erased, too: before the caller
    # is told, unless the periodic task for it is soon enough.
    erases: ClassVar[bool] = False
    erases_later: ClassVar[bool] = False
    # Up to how many of these `apply` is one statement.
    most_in_a_statement: ClassVar[int] = 0

    @property
    def rows(self) -> Sequence[Row]:
        """Name the rows that this write and others may change. They are locked before `apply`."""
        return ()

    @property
    def unique_name(self) -> tuple[str, ...]:
        """Return the name under which it inserts a row, where others may insert one under the same name."""
        return ()

    @classmethod
    def are_one_statement(cls, writes: Sequence[Self]) -> bool:
        """Return whether `apply` makes one statement of these, which needs no transaction around it."""
        return len(writes) <= cls.most_in_a_statement

    def undo(self, result: T) -> "Write[Any] | None":
        """Return the write that undoes this one after a commit that is unheard.

        None where it may stand: it locks, starts, charges and publishes nothing.
        """
        del result
        return None

    @classmethod
    @abstractmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> Sequence[T]:
        """Make these changes, in order, in the transaction at hand: one result each. Run again after a rollback.

        A StorageError that it raises for a change alone is what that one's caller gets.
        """


class Writer:
    """Group writes into transactions. One per process: it alone uses the database's writing threads."""

    def __init__(self, database: Database, commit_timeout: float, capacity: int = 10_000) -> None:
        self._database = database
        self._commit_timeout = commit_timeout
        self._capacity = capacity
        self._closed = False
        self._first = WriteQueue(
            _next_writes,
            lambda group: database.write(partial(commit, group, waits=False)),
            self._put_aside,
            self._undo_unheard,
            most_turns=_MOST_TURNS,
        )
        self._second = WriteQueue(
            _next_related,
            lambda group: database.write(partial(commit, group, waits=True), may_wait=True),
            self._put_aside,
            self._undo_unheard,
            most_turns=0,
        )

    async def submit(self, write: Write[T]) -> T:
        """Wait until the write is committed, and return its result.

        Raises StorageError when it failed, when what its call has left of `commit_timeout` (seconds) passed, when
        `capacity` writes are waiting, or after closing. Invariant: a late write is withdrawn before its caller is told.
        Only one whose COMMIT hangs by then may be committed later, and then it is undone. A cancelled caller takes
        nothing back; its write is undone, too.
        """
        ours = storage_time.time_of_call()
        began = time.monotonic()
        left = self._commit_timeout if ours is None else ours.left(self._commit_timeout)
        try:
            # The queue fails the future in time, so the task needs no timeout.
            return await self._enqueue(write, left)
        finally:
            if ours is not None:
                ours.spend(self._commit_timeout, began)

    def hand_in(self, write: Write[T]) -> asyncio.Future[T]:
        """Queue a write and return its outcome, however late; after a failure the write is not committed.

        Raises StorageError when the queue is full or closed.
        """
        return self._enqueue(write, math.inf)

    def _enqueue(self, write: Write[T], seconds: float) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        queue = self._second if write.is_apart and self._database.locks_rows else self._first
        if self._closed or len(queue) >= self._capacity:
            raise StorageError("The gateway cannot take more writes now. Try again in a moment.")
        outcome: asyncio.Future[T] = loop.create_future()
        queue.put(Pending(write, outcome, loop.time() + seconds), loop)
        return outcome

    async def aclose(self) -> None:
        """Refuse new writes and commit those that wait; after `commit_timeout` fail the rest."""
        self._closed = True
        try:
            async with asyncio.timeout(self._commit_timeout):
                # The first queue puts aside into the second.
                await self._first.drain()
                await self._second.drain()
        except TimeoutError:
            self._database.interrupt_write()
        self._first.close()
        self._second.close()

    def _put_aside(self, pending: Pending) -> None:
        """Move a write that found a row locked to the second thread, as long as its caller may wait."""
        loop = asyncio.get_running_loop()
        if pending.write.is_made_late or pending.due > loop.time():
            self._second.put(pending, loop)
        else:
            pending.fail(late())

    def _undo_unheard(self, write: Write[Any], result: Any) -> None:
        undoing = write.undo(result)
        if undoing is not None:
            _log.warning("a late write is undone", kind=type(write).__name__)
            self._undo(undoing, _MOST_UNDOINGS)

    def _undo(self, undoing: Write[Any], attempts: int) -> None:
        """Commit the undoing write; retry while the database is away."""
        loop = asyncio.get_running_loop()

        def done(outcome: asyncio.Future[Any]) -> None:
            if not outcome.cancelled() and outcome.exception() is not None:
                again()

        def again() -> None:
            if attempts > 1 and not self._closed:
                loop.call_later(_UNDOING_SECONDS, self._undo, undoing, attempts - 1)

        try:
            self.hand_in(undoing).add_done_callback(done)
        except StorageError:
            again()


def _next_writes(waiting: deque[Pending]) -> Sequence[Pending]:
    """Take as many writes as one transaction may have, in the order in which it makes them."""
    group = [waiting.popleft() for _ in range(min(len(waiting), LARGEST_GROUP))]
    group.sort(key=_sort_key)
    return group


def _next_related(waiting: deque[Pending]) -> Sequence[Pending]:
    """Take the oldest write and all that lock one of its rows: the others need not wait for these rows."""
    belongs = _belongs_with(waiting[0].write)
    group: list[Pending] = []
    others: list[Pending] = []
    for pending in waiting:
        goes = len(group) < LARGEST_GROUP and belongs(pending.write)
        (group if goes else others).append(pending)
    waiting.clear()
    waiting.extend(others)
    group.sort(key=_sort_key)
    return group


def _belongs_with(first: Write[Any]) -> Callable[[Write[Any]], bool]:
    """Return the test for writes that share a transaction with this one, which may wait."""
    rows = frozenset(first.rows)
    if first.is_apart:
        return lambda write: write is first
    if not rows:
        return lambda write: type(write) is type(first)
    return lambda write: not write.is_apart and not rows.isdisjoint(write.rows)


def _sort_key(pending: Pending) -> tuple[Rank, tuple[str, ...], str]:
    write: Write[Any] = pending.write
    return write.rank, write.unique_name, type(write).__name__
