"""Run the work on large inputs in one thread, one job at a time, so that the event loop goes on serving other calls.

One thread and not a pool: the interpreter runs one thread at a time, so the loop waits for each thread that computes. A
job yields to the loop between two steps of bytecode (`app.boot.start` sets how soon), so it must not compute for long
in one step: `app.wire.json.sliced_decoder` decodes in slices for that reason.
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

# The delay of a job by its size. A small job goes before a larger one that came shortly before it, and never before one
# that has waited for its delay.
_BYTES_PER_SECOND = 4_000_000


class _Job(Generic[T]):
    """Hold one call of `work` in the thread, and the future that the loop waits for."""

    __slots__ = ("_context", "loop", "outcome", "work")

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self.loop.create_future()
        self._context = contextvars.copy_context()

    def run(self) -> None:
        # The caller of a job that was cancelled before it began is gone.
        if self.outcome.cancelled():
            return
        result: T | None = None
        fault: BaseException | None = None
        try:
            result = self._context.run(self.work)
        except BaseException as error:  # noqa: BLE001 (raised in the caller; the thread has to live)
            fault = error
        # No caller waits in a closed loop.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._answer, result, fault)
        # The fault's traceback refers to this frame, which would keep the job's data until a garbage collection.
        del self, fault

    def _answer(self, result: T | None, fault: BaseException | None) -> None:
        if self.outcome.done():
            return
        if fault is not None:
            self.outcome.set_exception(fault)
        else:
            self.outcome.set_result(result)  # type: ignore[arg-type]  # no fault, so it is what the work returned


class ComputeThread:
    """Run jobs in a thread that starts with the first. Jobs are taken by their time, plus a delay for their size."""

    def __init__(self) -> None:
        self._jobs: PriorityQueue[tuple[float, int, _Job[Any]]] = PriorityQueue()
        self._numbers = itertools.count()
        self._thread: Thread | None = None

    async def run(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` with these arguments, of about `size` bytes, and return its result. Raises what it raises."""
        job = _Job(lambda: work(*args, **kwargs))
        self._jobs.put((job.loop.time() + size / _BYTES_PER_SECOND, next(self._numbers), job))
        if self._thread is None:
            self._thread = Thread(target=self._work, name="offload", daemon=True)
            self._thread.start()
        try:
            return await job.outcome
        finally:
            # The fault's traceback refers to this frame, too.
            del job

    def _work(self) -> None:
        while True:
            # No reference to a job is held while the next is waited for.
            self._jobs.get()[-1].run()
