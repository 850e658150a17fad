"""Queue the writes of a process, hand them to a thread group by group, and tell each caller the outcome in time.

A write is withdrawn before its caller is told that it is late: it is not committed afterwards (ADR 35).
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from app.errors import StorageError

LARGEST_GROUP = 256
"""The most writes of one transaction."""

# How much longer a late caller waits for a commit that is under way.
_COMMIT_SECONDS = 0.5

_log = structlog.get_logger("antiphon.writer")


@dataclass(slots=True, eq=False)
class Pending:
    """Hold a queued write, its caller's future, and when the caller stops waiting (by the loop's clock).

    The loop sets `is_withdrawn` and then looks at `is_committing`; the thread sets `is_committing` and then looks at
    `is_withdrawn`. Whichever is second sees the other's flag. So no write is committed after its caller was told that
    it is late, except one whose COMMIT was under way by then.
    """

    write: Any
    outcome: asyncio.Future[Any]
    due: float
    is_withdrawn: bool = False
    is_committing: bool = False

    def resolve(self, result: object) -> bool:
        """Give the caller its result; False for an unheard success: the caller has left, or was told it is late."""
        if isinstance(result, StorageError):
            self.fail(result)
        elif self.outcome.done():
            return False
        else:
            self.outcome.set_result(result)
        return True

    def fail(self, failure: StorageError) -> None:
        """Give the caller its failure, unless it has an outcome."""
        if self.outcome.done():
            return
        self.outcome.set_exception(failure)
        # Read once here, so that asyncio does not log it again where the caller leaves first.
        self.outcome.exception()


class WriteQueue:
    """Queue the writes for one writing thread, which has one group at a time.

    `choose` takes the next group out of the queue. `commit` hands it to the thread, which returns for each write a
    result, a StorageError, or `BUSY`, for which `put_aside` is called. `unheard` is called with each committed write
    whose caller was told otherwise, and its result. A group waits for more writes for up to `most_turns` of the loop.
    """

    BUSY = object()
    """The result of a write whose rows another transaction has locked: no part of it was made."""

    WITHDRAWN = object()
    """The result of a write that was withdrawn before it was committed."""

    def __init__(
        self,
        choose: Callable[[deque[Pending]], Sequence[Pending]],
        commit: Callable[[Sequence[Pending]], asyncio.Future[list[Any]]],
        put_aside: Callable[[Pending], None],
        unheard: Callable[[Any, Any], None],
        *,
        most_turns: int,
    ) -> None:
        self._choose = choose
        self._commit = commit
        self._put_aside = put_aside
        self._unheard = unheard
        self._most_turns = most_turns
        self._waiting: deque[Pending] = deque()
        self._group: Sequence[Pending] = ()
        # One timer for all writes, set for the first that will be late.
        self._timer: asyncio.TimerHandle | None = None
        # Kept here, because uvloop's handle of a timer that is due does not tell its time.
        self._timer_due = math.inf
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, pending: Pending, loop: asyncio.AbstractEventLoop) -> None:
        """Queue a write."""
        if self._is_closed:
            pending.fail(_stopped())
            return
        self._waiting.append(pending)
        if pending.due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(pending.due, loop)
        if self._idle.is_set():
            self._idle.clear()
            loop.call_soon(self._gather, loop, 0, self._most_turns)

    async def drain(self) -> None:
        """Wait until the queue is empty and the thread is idle."""
        await self._idle.wait()

    def close(self) -> None:
        """Fail the writes that still wait, and all later ones."""
        self._is_closed = True
        while self._waiting:
            self._waiting.popleft().fail(_stopped())
        if self._timer is not None and not self._group:
            self._timer.cancel()

    def _gather(self, loop: asyncio.AbstractEventLoop, before: int, turns: int) -> None:
        """Commit the queue once a turn of the loop has added nothing to it.

        A commit of few writes is expensive, and waiting by the clock costs time. An idle loop's turn takes no time, and
        a busy loop's next turn brings the next write.
        """
        count = len(self._waiting)
        if turns and before < count < LARGEST_GROUP:
            loop.call_soon(self._gather, loop, count, turns - 1)
        elif not count:
            self._idle.set()
        else:
            self._group = group = self._choose(self._waiting)
            outcome = self._commit(group)
            outcome.add_done_callback(lambda results: self._resolve(loop, group, results))

    def _resolve(
        self, loop: asyncio.AbstractEventLoop, group: Sequence[Pending], outcome: asyncio.Future[list[Any]]
    ) -> None:
        self._group = ()
        self._gather(loop, 0, self._most_turns)
        error = outcome.exception()
        if error is not None:
            # A bug, as errors of writes are among the results. Every caller gets an answer all the same.
            _log.error("the writing thread failed", error=type(error).__name__)
            for pending in group:
                pending.fail(StorageError("The gateway could not keep this. Try again in a moment."))
            return
        for pending, result in zip(group, outcome.result(), strict=True):
            if result is self.BUSY:
                pending.is_committing = False
                self._put_aside(pending)
            elif result is self.WITHDRAWN:
                pending.fail(late())
            elif not pending.resolve(result):
                self._unheard(pending.write, result)

    def _withdraw_late(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        waiting = [pending for pending in (*self._group, *self._waiting) if not pending.outcome.done()]
        for pending in waiting:
            if pending.due <= now:
                self._withdraw(pending, now)
        due = min((pending.due for pending in waiting if pending.due > now), default=math.inf)
        self._set_timer(due, loop)
        if any(pending.is_withdrawn for pending in self._waiting):
            left = [pending for pending in self._waiting if not pending.is_withdrawn]
            self._waiting.clear()
            self._waiting.extend(left)

    def _set_timer(self, due: float, loop: asyncio.AbstractEventLoop) -> None:
        self._timer_due = due
        self._timer = None if due == math.inf else loop.call_at(due, self._withdraw_late, loop)

    @staticmethod
    def _withdraw(pending: Pending, now: float) -> None:
        """Withdraw a late write and fail its caller; where a commit is under way, wait for that a little longer."""
        if not pending.write.is_made_late and not pending.is_withdrawn:
            pending.is_withdrawn = True
            if pending.is_committing:
                pending.due = now + _COMMIT_SECONDS
                return
        pending.fail(late())


def late() -> StorageError:
    """Make the error for the caller of a late write."""
    return StorageError("The database could not commit in time. Try again in a moment.")


def _stopped() -> StorageError:
    return StorageError("The gateway was stopped before the database could keep this.")
