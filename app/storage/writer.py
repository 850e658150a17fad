"""Everything that is written: whatever is waiting goes into one transaction. Must not know what the writes are."""

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog
from sqlalchemy import Connection

from app.errors import StorageError
from app.storage.database import Database, is_outage
from app.storage.session import Session

T = TypeVar("T")

_LARGEST_GROUP = 256
# For how many turns of the loop a group may wait, while each brings more to it.
_MOST_TURNS = 8

_log = structlog.get_logger("antiphon.writer")


class Write(ABC, Generic[T]):
    """One change to the database, with a result of type T. Subclasses are dataclasses beside their store."""

    # Whether content is removed when the result is true, so that SQLite's log has to be emptied of it too.
    erases: ClassVar[bool] = False
    # Whether these come before all others of their transaction: locks that they take in one order.
    comes_first: ClassVar[bool] = False
    # Up to how many of these `apply` is one statement.
    most_in_a_statement: ClassVar[int] = 0

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


@dataclass(slots=True, eq=False)
class _Pending:
    """A write that was taken, and when its caller stops waiting (by the loop's clock)."""

    write: Write[Any]
    outcome: asyncio.Future[Any]
    due: float

    def settle(self, result: object) -> None:
        if isinstance(result, StorageError):
            self.fail(result)
        elif not self.outcome.done():
            self.outcome.set_result(result)

    def be_late(self) -> None:
        self.fail(StorageError("The database could not commit in time. Try again in a moment."))

    def fail(self, failure: StorageError) -> None:
        if self.outcome.done():
            # Its caller has gone, or was told that it is late.
            return
        self.outcome.set_exception(failure)
        # Read once here: the waiter may leave before it does, and the failure has been logged.
        self.outcome.exception()


class Writer:
    """Groups writes into transactions. One per process: it alone uses the database's writing thread."""

    def __init__(self, database: Database, commit_timeout: float, capacity: int = 10_000) -> None:
        self._database = database
        self._commit_timeout = commit_timeout
        self._capacity = capacity
        self._waiting: deque[_Pending] = deque()
        # What the thread has.
        self._group: Sequence[_Pending] = ()
        # One for all: it is set for what waits longest.
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def submit(self, write: Write[T]) -> T:
        """Wait until the write is committed, and return its result.

        Raises StorageError when it failed, when `commit_timeout` (seconds) passed, when `capacity` writes are waiting,
        or after closing. Invariant: neither a cancelled caller nor a late one takes its write back. So after a timeout
        the outcome is unknown: the write may still be committed.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + self._commit_timeout
        outcome = self._take(loop, write, due)
        if self._timer is None:
            self._timer = loop.call_at(due, self._tell_the_late)
        # It is the outcome that fails in time, and not the task: that costs nothing here.
        return await outcome

    def hand_in(self, write: Write[T]) -> asyncio.Future[T]:
        """The write's outcome, however late it comes: until then it may be committed, after a failure it will not be.

        Raises StorageError when nothing can be taken now.
        """
        return self._take(asyncio.get_running_loop(), write, math.inf)

    def _take(self, loop: asyncio.AbstractEventLoop, write: Write[T], due: float) -> asyncio.Future[T]:
        if self._closed or len(self._waiting) >= self._capacity:
            raise StorageError("The gateway cannot take more writes now. Try again in a moment.")
        outcome: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Pending(write, outcome, due))
        if self._idle.is_set():
            self._idle.clear()
            loop.call_soon(self._gather, 0, _MOST_TURNS)
        return outcome

    async def aclose(self) -> None:
        """Refuse new writes and commit those that wait. After `commit_timeout` nobody waits for the rest."""
        self._closed = True
        try:
            async with asyncio.timeout(self._commit_timeout):
                await self._idle.wait()
        except TimeoutError:
            while self._waiting:
                failure = StorageError("The gateway was stopped before the database could keep this.")
                self._waiting.popleft().fail(failure)
            self._database.interrupt_write()
        else:
            if self._timer is not None:
                self._timer.cancel()

    def _gather(self, before: int, turns: int) -> None:
        """Commit what waits, once a turn of the loop has added nothing to it.

        Few writes to a commit are dear, and waiting by the clock is dear in time. An idle loop's turn takes none, and a
        busy one's next turn brings the next write.
        """
        count = len(self._waiting)
        if turns and before < count < _LARGEST_GROUP:
            asyncio.get_running_loop().call_soon(self._gather, count, turns - 1)
        else:
            self._commit_waiting()

    def _commit_waiting(self) -> None:
        """Hand the next group to the writing thread; when there is none, it rests."""
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST_GROUP))]
        if not group:
            self._idle.set()
            return
        group.sort(key=_place)
        self._group = group
        results = self._database.write(partial(_commit, [pending.write for pending in group]))
        results.add_done_callback(partial(self._settle, group))

    def _settle(self, group: Sequence[_Pending], results: asyncio.Future[list[Any]]) -> None:
        self._group = ()
        self._gather(0, _MOST_TURNS)
        for pending, result in zip(group, results.result(), strict=True):
            pending.settle(result)

    def _tell_the_late(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = [pending for pending in (*self._group, *self._waiting) if not pending.outcome.done()]
        for pending in waiting:
            if pending.due <= now:
                pending.be_late()
        due = min((pending.due for pending in waiting if pending.due > now), default=math.inf)
        self._timer = None if due == math.inf else loop.call_at(due, self._tell_the_late)


def _place(pending: _Pending) -> bool:
    return not pending.write.comes_first


def _commit(writes: Sequence[Write[Any]], session: Session) -> list[Any]:
    """Commit the group; when a statement fails it, each write alone, so that a bad one fails only its caller.

    Returns the result of each write, or the StorageError that it failed with. Runs in the writing thread.
    """
    try:
        return _transact(writes, session)
    except Exception as error:  # noqa: BLE001 (whatever a write raises is its caller's)
        if len(writes) > 1 and not is_outage(error):
            return _commit_each(writes, session)
        return _failed(writes, error)


def _commit_each(writes: Sequence[Write[Any]], session: Session) -> list[Any]:
    results: list[Any] = []
    for number, write in enumerate(writes):
        try:
            results += _transact([write], session)
        except Exception as error:  # noqa: BLE001 (idem)
            if is_outage(error):
                # The database is down for all that are left: ask it once, not once per write.
                return results + _failed(writes[number:], error)
            results += _failed([write], error)
    return results


def _transact(writes: Sequence[Write[Any]], session: Session) -> list[Any]:
    """One transaction for these writes, and their results; or the error that rolled it back."""
    runs = [list(run) for _, run in groupby(writes, key=type)]

    def apply(connection: Connection) -> list[Any]:
        return list(chain.from_iterable(run[0].apply(connection, run) for run in runs))

    results = session.write(apply, is_one_statement=len(runs) == 1 and writes[0].are_one_statement(writes))
    if any(write.erases and result for write, result in zip(writes, results, strict=True)):
        session.erase_log()
    return results


def _failed(writes: Sequence[Write[Any]], error: Exception) -> list[Any]:
    if isinstance(error, StorageError):
        return [error] * len(writes)
    # The class alone: a driver's text can quote the row.
    _log.warning("writes failed", count=len(writes), error=type(error).__name__)
    failures = [StorageError("The database could not keep this. Try again in a moment.") for _ in writes]
    for failure in failures:
        failure.__cause__ = error
    return failures
