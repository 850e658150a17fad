"""A time within which blocks of code are over. Must not know what the blocks do."""

import asyncio
from types import TracebackType


class Deadline:
    """`with deadline.block():` ends what the block awaits `seconds` later, and raises TimeoutError where it ends.

    Any number of blocks may be under way: as all have the same time, the first to begin is the first to end, and one
    timer serves them. So a block that is over in time, as nearly all are, costs a look at the clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order in which they end.
        self._blocks: dict[Block, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def block(self) -> "Block":
        """A context for one block of code, to be entered once."""
        return Block(self)

    def add(self, block: "Block", loop: asyncio.AbstractEventLoop) -> None:
        """The block begins."""
        ends_at = self._blocks[block] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(ends_at, self._look, loop)

    def remove(self, block: "Block") -> None:
        """The block is over."""
        self._blocks.pop(block, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._blocks:
            block, ends_at = next(iter(self._blocks.items()))
            if ends_at > loop.time():
                self._timer = loop.call_at(ends_at, self._look, loop)
                break
            self.remove(block)
            block.end()


class Block:
    """One block. It does what asyncio.timeout does, but cannot be moved, asked or entered again.

    Whoever else cancels the task meanwhile has precedence.
    """

    __slots__ = ("_cancelled_before", "_deadline", "_has_passed", "_task")

    _task: asyncio.Task[object]
    _cancelled_before: int

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._has_passed = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        # With the loop at hand it is a look-up; without, asyncio asks the system which process this is.
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
        """Its time is over."""
        self._has_passed = True
        self._task.cancel()
