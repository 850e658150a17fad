"""A time by which a block of code is over. Must not know what the block does."""

import asyncio
from types import TracebackType


class Deadline:
    """`with Deadline(seconds):` ends what the block awaits then, and raises TimeoutError where the block ends.

    It does what asyncio.timeout does, for half its price, which every call pays: it cannot be moved, asked or nested
    in itself. Whoever else cancels the task meanwhile has precedence.
    """

    __slots__ = ("_cancelled_before", "_passed", "_seconds", "_task", "_timer")

    _task: asyncio.Task[object]
    _timer: asyncio.TimerHandle
    _cancelled_before: int

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._passed = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        # With the loop at hand it is a look-up; without, asyncio asks the system which process this is.
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("A deadline is for what a task does.")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._timer = loop.call_later(self._seconds, self._pass)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._passed and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()
