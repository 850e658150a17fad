"""Queue the writes of a process, hand them to a thread group by group, and tell each caller the outcome in time.

A write whose caller was told that it is late is withdrawn: it is not committed afterwards (ADR 35).
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
    """A write that was taken, and when its caller stops waiting (by the loop's clock).

    The loop sets `is_withdrawn` and then looks at `is_committing`, the thread sets `is_committing` and then looks at
    `is_withdrawn`: whichever is second sees the other's, so that nothing is committed that was told to be late, but
    for what was being committed by then.
    """

    write: Any
    outcome: asyncio.Future[Any]
    due: float
    is_withdrawn: bool = False
    is_committing: bool = False

    def settle(self, result: object) -> bool:
        """Tell the caller; False for a success that it does not hear of: it has gone, or was told that it is late."""
        if isinstance(result, StorageError):
            self.fail(result)
        elif self.outcome.done():
            return False
        else:
            self.outcome.set_result(result)
        return True

    def fail(self, failure: StorageError) -> None:
        """The same of a failure."""
        if self.outcome.done():
            return
        self.outcome.set_exception(failure)
        # Read once here: the waiter may leave before it does, and the failure has been logged.
        self.outcome.exception()


class WriteQueue:
    """What waits for one writing thread, and the group that the thread has.

    `choose` takes the next group out of what waits, `commit` hands it to the thread: a result for each write, a
    StorageError, or `BUSY`, for which `put_aside` is called. `unheard` is told of a write that was committed, and its
    result, where its caller was told otherwise. A group waits for up to `most_turns` of the loop for more.
    """

    BUSY = object()
    """The result of a write whose rows others have locked: nothing of it was done."""

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
        # One for all: it is set for what is late first.
        self._timer: asyncio.TimerHandle | None = None
        # Kept here: what uvloop returns for a time that has come does not know its own.
        self._timer_due = math.inf
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, pending: Pending, loop: asyncio.AbstractEventLoop) -> None:
        """Have this written."""
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
        """Wait until nothing waits and the thread has nothing."""
        await self._idle.wait()

    def close(self) -> None:
        """Nobody waits any more: what still waits, or comes later, fails."""
        self._is_closed = True
        while self._waiting:
            self._waiting.popleft().fail(_stopped())
        if self._timer is not None and not self._group:
            self._timer.cancel()

    def _gather(self, loop: asyncio.AbstractEventLoop, before: int, turns: int) -> None:
        """Commit what waits, once a turn of the loop has added nothing to it.

        Few writes to a commit are dear, and waiting by the clock is dear in time. An idle loop's turn takes none, and a
        busy one's next turn brings the next write.
        """
        count = len(self._waiting)
        if turns and before < count < LARGEST_GROUP:
            loop.call_soon(self._gather, loop, count, turns - 1)
        elif not count:
            self._idle.set()
        else:
            self._group = group = self._choose(self._waiting)
            outcome = self._commit(group)
            outcome.add_done_callback(lambda results: self._settle(loop, group, results))

    def _settle(
        self, loop: asyncio.AbstractEventLoop, group: Sequence[Pending], outcome: asyncio.Future[list[Any]]
    ) -> None:
        self._group = ()
        self._gather(loop, 0, self._most_turns)
        error = outcome.exception()
        if error is not None:
            # Not the database's: what a write raises is among the results. Nobody is left without an answer for it.
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
            elif not pending.settle(result):
                self._unheard(pending.write, result)

    def _tell_the_late(self, loop: asyncio.AbstractEventLoop) -> None:
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
        self._timer = None if due == math.inf else loop.call_at(due, self._tell_the_late, loop)

    @staticmethod
    def _withdraw(pending: Pending, now: float) -> None:
        """See to it that the write is not committed, and tell its caller; of a commit under way a little later."""
        if not pending.write.is_made_late and not pending.is_withdrawn:
            pending.is_withdrawn = True
            if pending.is_committing:
                pending.due = now + _COMMIT_SECONDS
                return
        pending.fail(late())


def late() -> StorageError:
    """What the caller of a late write is told."""
    return StorageError("The database could not commit in time. Try again in a moment.")


def _stopped() -> StorageError:
    return StorageError("The gateway was stopped before the database could keep this.")
