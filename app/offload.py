"""Run the work on large inputs in one thread, one job at a time, so that the event loop goes on serving everybody else.

One thread and not a pool: the interpreter runs one thread at a time, so the loop waits for each that computes, and has
to compete with one alone. A job gives way by itself between two steps of bytecode (`app.start` says how soon), so what
it calls must not compute for long in one step: `app.wire.slices` decodes in slices for that reason.
"""

import asyncio
import contextvars
import itertools
from collections.abc import Callable
from contextlib import suppress
from queue import PriorityQueue
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# What a job's size counts for in the queue. A small job goes before a larger one that came shortly before it, and never
# before one that has waited for as long as its size asks.
_BYTES_PER_SECOND = 4_000_000


class _Job(Generic[T]):
    """One call of `work` in the thread, and the future that the loop waits for."""

    __slots__ = ("_context", "loop", "outcome", "work")

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self.loop.create_future()
        self._context = contextvars.copy_context()

    def run(self) -> None:
        # Nobody waits any more for a job that was cancelled before it began.
        if self.outcome.cancelled():
            return
        result: T | None = None
        fault: BaseException | None = None
        try:
            result = self._context.run(self.work)
        except BaseException as error:  # noqa: BLE001 (it is the caller's; the thread has to live)
            fault = error
        # A loop that is closed has nobody waiting in it.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._answer, result, fault)
        # The fault knows this frame, and with it all that the work had at hand, for the garbage collector to find.
        del self, fault

    def _answer(self, result: T | None, fault: BaseException | None) -> None:
        if self.outcome.done():
            return
        if fault is not None:
            self.outcome.set_exception(fault)
        else:
            self.outcome.set_result(result)  # type: ignore[arg-type]  # no fault, so it is what the work returned


class Offload:
    """The thread, started with the first job. What waits for it is taken by the time it came, and then by its size."""

    def __init__(self) -> None:
        self._jobs: PriorityQueue[tuple[float, int, _Job[Any]]] = PriorityQueue()
        self._numbers = itertools.count()
        self._thread: Thread | None = None

    async def run(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait for what `work` makes of these arguments, which weigh about `size` bytes. Raises what it raises."""
        job = _Job(lambda: work(*args, **kwargs))
        self._jobs.put((job.loop.time() + size / _BYTES_PER_SECOND, next(self._numbers), job))
        if self._thread is None:
            self._thread = Thread(target=self._work, name="offload", daemon=True)
            self._thread.start()
        try:
            return await job.outcome
        finally:
            # Its fault knows this frame, too.
            del job

    def _work(self) -> None:
        while True:
            # Nothing of a job is held while the next is waited for.
            self._jobs.get()[-1].run()
