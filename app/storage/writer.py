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
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog
from sqlalchemy import Connection

from app import allowance
from app.errors import StorageError
from app.storage.database import Database
from app.storage.group_commit import commit
from app.storage.row_locks import Row
from app.storage.write_queue import LARGEST_GROUP, Pending, WriteQueue, late

T = TypeVar("T")

# For how many turns of the loop a group may wait, while each brings more to it.
_MOST_TURNS = 8
# How often what came too late is tried to be undone, and how long after the last attempt.
_MOST_UNDOINGS = 300
_UNDOING_SECONDS = 1.0

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

    is_made_late: ClassVar[bool] = False
    """Whether it is made however late, also where its caller was told that it was not: it only lets go of something."""

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

    def undo(self, result: T) -> "Write[Any] | None":
        """What takes this back, where it was committed and its caller was told otherwise, or had gone.

        None where it may stand: nothing is held, run, charged or said by it.
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
    """Groups writes into transactions. One per process: it alone uses the database's writing threads."""

    def __init__(self, database: Database, commit_timeout: float, capacity: int = 10_000) -> None:
        self._database = database
        self._commit_timeout = commit_timeout
        self._capacity = capacity
        self._closed = False
        self._first = WriteQueue(
            _next_writes,
            lambda group: database.write(partial(commit, group, waits=False)),
            self._put_aside,
            self._take_back,
            most_turns=_MOST_TURNS,
        )
        self._second = WriteQueue(
            _next_alike,
            lambda group: database.write(partial(commit, group, waits=True), may_wait=True),
            self._put_aside,
            self._take_back,
            most_turns=0,
        )

    async def submit(self, write: Write[T]) -> T:
        """Wait until the write is committed, and return its result.

        Raises StorageError when it failed, when what its call has left of `commit_timeout` (seconds) passed, when
        `capacity` writes are waiting, or after closing. Invariant: a late write is withdrawn before its caller is told.
        Only one whose COMMIT hangs by then may be committed later, and then it is undone. A cancelled caller takes
        nothing back; its write is undone, too.
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
        if pending.write.is_made_late or pending.due > loop.time():
            self._second.put(pending, loop)
        else:
            pending.fail(late())

    def _take_back(self, write: Write[Any], result: Any) -> None:
        undoing = write.undo(result)
        if undoing is not None:
            _log.warning("a late write is undone", kind=type(write).__name__)
            self._undo(undoing, _MOST_UNDOINGS)

    def _undo(self, undoing: Write[Any], attempts: int) -> None:
        """Make this write, and try again where the database is away."""
        loop = asyncio.get_running_loop()

        def heard(outcome: asyncio.Future[Any]) -> None:
            if not outcome.cancelled() and outcome.exception() is not None:
                again()

        def again() -> None:
            if attempts > 1 and not self._closed:
                loop.call_later(_UNDOING_SECONDS, self._undo, undoing, attempts - 1)

        try:
            self.hand_in(undoing).add_done_callback(heard)
        except StorageError:
            again()


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
