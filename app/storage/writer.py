"""Write everything that is written: what waits goes into one transaction, which waits for nobody's row (ADR 24).

On PostgreSQL there are two writing connections. The first commits whatever finds its rows free. What finds one taken
goes to the second, which may wait, and so do the writes of background duties and of administrators.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from functools import partial
from itertools import chain, compress, groupby
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog
from sqlalchemy import Connection

from app import allowance
from app.errors import StorageError, forget_frames
from app.storage.database import Database, is_contended, is_outage
from app.storage.row_locks import Row, lock
from app.storage.session import Session
from app.storage.write_queue import LARGEST_GROUP, Pending, WriteQueue

T = TypeVar("T")

# For how many turns of the loop a group may wait, while each brings more to it.
_MOST_TURNS = 8

_log = structlog.get_logger("antiphon.writer")


class Rank(IntEnum):
    """The order in which a transaction makes its writes, and so locks what it cannot lock before: by what they are of.

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
    """One change to the database, with a result of type T. Subclasses are dataclasses beside their store."""

    rank: ClassVar[Rank]
    """Its place in a transaction."""

    is_apart: ClassVar[bool] = False
    """Whether it has a transaction of its own, on the connection that may wait. It locks rows of each table in the
    order of their keys, or skips what is locked."""

    # Whether content is removed when the result is true, so that SQLite's log has to be emptied of it too: before the
    # caller is told, unless the duty for it will do.
    erases: ClassVar[bool] = False
    erases_later: ClassVar[bool] = False
    # Up to how many of these `apply` is one statement.
    most_in_a_statement: ClassVar[int] = 0

    @property
    def rows(self) -> Sequence[Row]:
        """The rows that it changes and others may change as well. They are locked before `apply`."""
        return ()

    @property
    def unique_name(self) -> tuple[str, ...]:
        """The name under which it inserts a row, where others may insert one under the same."""
        return ()

    @classmethod
    def are_one_statement(cls, writes: Sequence[Self]) -> bool:
        """Whether `apply` makes one statement of these, which needs no transaction around it."""
        return len(writes) <= cls.most_in_a_statement

    @classmethod
    @abstractmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> Sequence[T]:
        """Make these changes, in order, in the transaction at hand: one result each. Run again after a rollback.

        A StorageError that it raises for a change alone is what that one's caller gets.
        """


class Writer:
    """Groups writes into transactions. One per process: it alone uses the database's writing threads."""

    def __init__(self, database: Database, commit_timeout: float, capacity: int = 10_000) -> None:
        self._database = database
        self._commit_timeout = commit_timeout
        self._capacity = capacity
        self._closed = False
        self._first = WriteQueue(
            _next_writes,
            lambda writes: database.write(partial(_commit, writes, waits=False)),
            self._put_aside,
            most_turns=_MOST_TURNS,
        )
        self._second = WriteQueue(
            _next_alike,
            lambda writes: database.write(partial(_commit, writes, waits=True), may_wait=True),
            self._put_aside,
            most_turns=0,
        )

    async def submit(self, write: Write[T]) -> T:
        """Wait until the write is committed, and return its result.

        Raises StorageError when it failed, when what its call has left of `commit_timeout` (seconds) passed, when
        `capacity` writes are waiting, or after closing. Invariant: neither a cancelled caller nor a late one takes its
        write back. So after a timeout the outcome is unknown: the write may still be committed, unless it had found
        its row taken.
        """
        ours = allowance.of_call()
        began = time.monotonic()
        left = self._commit_timeout if ours is None else ours.left(self._commit_timeout)
        try:
            # It is the outcome that fails in time, and not the task: that costs nothing here.
            return await self._take(write, left)
        finally:
            if ours is not None:
                ours.spend(self._commit_timeout, began)

    def hand_in(self, write: Write[T]) -> asyncio.Future[T]:
        """The write's outcome, however late it comes: until then it may be committed, after a failure it will not be.

        Raises StorageError when nothing can be taken now.
        """
        return self._take(write, math.inf)

    def _take(self, write: Write[T], seconds: float) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        queue = self._second if write.is_apart and self._database.locks_rows else self._first
        if self._closed or len(queue) >= self._capacity:
            raise StorageError("The gateway cannot take more writes now. Try again in a moment.")
        outcome: asyncio.Future[T] = loop.create_future()
        queue.put(Pending(write, outcome, loop.time() + seconds), loop)
        return outcome

    async def aclose(self) -> None:
        """Refuse new writes and commit those that wait. After `commit_timeout` nobody waits for the rest."""
        self._closed = True
        try:
            async with asyncio.timeout(self._commit_timeout):
                # What the first puts aside, the second has.
                await self._first.drain()
                await self._second.drain()
        except TimeoutError:
            self._database.interrupt_write()
        self._first.close()
        self._second.close()

    def _put_aside(self, pending: Pending) -> None:
        """Have the second thread try what found a row taken, as long as its caller may wait."""
        loop = asyncio.get_running_loop()
        if pending.due > loop.time():
            self._second.put(pending, loop)


def _next_writes(waiting: deque[Pending]) -> Sequence[Pending]:
    """As many as go together, in the order in which a transaction makes them."""
    group = [waiting.popleft() for _ in range(min(len(waiting), LARGEST_GROUP))]
    group.sort(key=_place)
    return group


def _next_alike(waiting: deque[Pending]) -> Sequence[Pending]:
    """What waits longest, with all that wants one of its rows: others need not wait for these."""
    goes_along = _company(waiting[0].write)
    group: list[Pending] = []
    others: list[Pending] = []
    for pending in waiting:
        goes = len(group) < LARGEST_GROUP and goes_along(pending.write)
        (group if goes else others).append(pending)
    waiting.clear()
    waiting.extend(others)
    group.sort(key=_place)
    return group


def _company(first: Write[Any]) -> Callable[[Write[Any]], bool]:
    """Whether another write belongs into the transaction of this one, which may wait."""
    rows = frozenset(first.rows)
    if first.is_apart:
        return lambda write: write is first
    if not rows:
        return lambda write: type(write) is type(first)
    return lambda write: not write.is_apart and not rows.isdisjoint(write.rows)


def _place(pending: Pending) -> tuple[Rank, tuple[str, ...], str]:
    write: Write[Any] = pending.write
    return write.rank, write.unique_name, type(write).__name__


def _commit(writes: Sequence[Write[Any]], session: Session, *, waits: bool) -> list[Any]:
    """Commit the group; when a statement fails it, each half of it, so that in the end a bad write fails only itself.

    Returns the result of each write, the StorageError that it failed with, or BUSY. Runs in a writing thread.
    """
    results: list[Any] = []
    left = [writes]
    while left:
        part = left.pop()
        try:
            results += _transact(part, session, waits=waits)
        except Exception as error:  # noqa: BLE001 (whatever a write raises is its caller's)
            # What failed knows this frame, and with it all that was to be written.
            forget_frames(error)
            if is_contended(error) or (len(part) == 1 and not is_outage(error)):
                results += _failed(part, error)
            elif is_outage(error):
                # The database is down for all that are left: ask it once, not once per write.
                return results + _failed([*part, *chain.from_iterable(reversed(left))], error)
            else:
                half = len(part) // 2
                left += [part[half:], part[:half]]
    return results


def _transact(writes: Sequence[Write[Any]], session: Session, *, waits: bool) -> list[Any]:
    """One transaction for these writes, and their results; or the error that rolled it back."""

    def apply(connection: Connection) -> list[Any]:
        are_ours = _lock(connection, writes, waits=waits) if session.locks_rows else None
        ready = writes if are_ours is None else list(compress(writes, are_ours))
        runs = [list(run) for _, run in groupby(ready, key=type)]
        results = chain.from_iterable(run[0].apply(connection, run) for run in runs)
        if are_ours is None:
            return list(results)
        return [next(results) if is_ours else WriteQueue.BUSY for is_ours in are_ours]

    first = writes[0]
    is_one_kind = all(type(write) is type(first) for write in writes)
    results = session.write(apply, is_one_statement=is_one_kind and first.are_one_statement(writes))
    erasing = [write for write, result in zip(writes, results, strict=True) if write.erases and result]
    if erasing:
        session.erase_log(later=all(write.erases_later for write in erasing))
    return results


def _lock(connection: Connection, writes: Sequence[Write[Any]], *, waits: bool) -> Sequence[bool] | None:
    """Lock the rows of these writes. Of each, whether all its rows are ours; None where all may be made."""
    rows = [write.rows for write in writes]
    if not any(rows):
        return None
    ours = lock(connection, chain.from_iterable(rows), waits=waits)
    return None if waits else [all(row in ours for row in own) for own in rows]


def _failed(writes: Sequence[Write[Any]], error: Exception) -> list[Any]:
    if isinstance(error, StorageError):
        return [error] * len(writes)
    if is_contended(error):
        return [WriteQueue.BUSY] * len(writes)
    # The class alone: a driver's text can quote the row.
    _log.warning("writes failed", count=len(writes), error=type(error).__name__)
    failures = [StorageError("The database could not keep this. Try again in a moment.") for _ in writes]
    for failure in failures:
        failure.__cause__ = error
    return failures
