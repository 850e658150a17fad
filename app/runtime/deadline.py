"""Bound the time of blocks of code, with one timer for all blocks of the same deadline."""

import asyncio
from types import TracebackType


class Deadline:
    """End what `with deadline.block():` awaits after `seconds`, and raise TimeoutError where it ends.

    Any number of blocks may be under way: all have the same time, so the first to begin is the first to end, and one
    timer serves them. A block that is over in time, as nearly all are, costs only a reading of the clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order in which the blocks end.
        self._blocks: dict[Block, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def block(self) -> "Block":
        """Return a context for one block of code, to be entered once."""
        return Block(self)

    def add(self, block: "Block", loop: asyncio.AbstractEventLoop) -> None:
        """Start the time of the block."""
        ends_at = self._blocks[block] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(ends_at, self._end_due, loop)

    def remove(self, block: "Block") -> None:
        """Stop the time of the block."""
        self._blocks.pop(block, None)

    def _end_due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._blocks:
            block, ends_at = next(iter(self._blocks.items()))
            if ends_at > loop.time():
                self._timer = loop.call_at(ends_at, self._end_due, loop)
                break
            self.remove(block)
            block.end()


class Block:
    """Bound one block as asyncio.timeout does, but without rescheduling or re-entry.

    A cancellation of the task by others meanwhile has precedence.
    """

    __slots__ = ("_cancelled_before", "_deadline", "_has_passed", "_task")

    _task: asyncio.Task[object]
    _cancelled_before: int

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._has_passed = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        # With the loop given this is a look-up; without, asyncio asks the system for the process id.
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("A deadline is for what a task does.")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._deadline.add(self, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self._has_passed:
            self._deadline.remove(self)
        elif self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end(self) -> None:
        """Cancel the block: its time is over."""
        self._has_passed = True
        self._task.cancel()
