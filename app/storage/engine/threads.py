"""Run the event loop's database work in threads, each with a session of its own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from app.runtime.deadline import Deadline
from app.storage.engine.session import Session

T = TypeVar("T")


class _Job(Generic[T]):
    """Hold one call of `work` and the future that the loop waits for. A job without work ends its thread."""

    __slots__ = ("loop", "outcome", "work")

    def __init__(self, work: Callable[[Session], T] | None) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self.loop.create_future()


class DatabaseThreads:
    """Start up to `size` threads as they are needed, and run jobs in them. `open_session` makes the session of each."""

    def __init__(self, open_session: Callable[[], Session], size: int, name: str) -> None:
        self._open_session = open_session
        self._size = size
        self._name = name
        self._jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        self._threads: list[_DatabaseThread] = []
        self.busy = 0

    def submit(self, work: Callable[[Session], T]) -> asyncio.Future[T]:
        """Run `work` in the next free thread; needs a running loop. Cancelling the future ends nothing."""
        return self._enqueue(_Job(work)).outcome

    async def run(self, work: Callable[[Session], T], deadline: Deadline) -> T:
        """Return the result of `work` in a thread. At the deadline, interrupt its statement and raise TimeoutError."""
        job = self._enqueue(_Job(work))
        try:
            with deadline.block():
                return await job.outcome
        finally:
            if job.outcome.cancelled():
                self._interrupt(job)
            # The job's error refers to this frame, and by it to all data of the call.
            del job

    def interrupt(self) -> None:
        """Interrupt the statements that run now."""
        self._interrupt(None)

    async def aclose(self, timeout: float) -> None:  # noqa: ASYNC109 (of threads, not of this task)
        """Let each thread end its work and close its session; leave behind one that takes longer than `timeout`."""
        ends = [self._enqueue(_Job[None](None)).outcome for _ in self._threads]
        if ends:
            _, late = await asyncio.wait(ends, timeout=timeout)
            if not late:
                for thread in self._threads:
                    thread.join()
        self._threads.clear()

    def _enqueue(self, job: _Job[T]) -> _Job[T]:
        self.busy += 1
        if len(self._threads) < min(self.busy, self._size):
            self._threads.append(_DatabaseThread(self._open_session(), self._jobs, self._finish, self._name))
        self._jobs.put(job)
        return job

    def _finish(self, job: _Job[T], result: T | None, error: BaseException | None) -> None:
        self.busy -= 1
        if job.outcome.done():
            return
        if error is not None:
            job.outcome.set_exception(error)
        else:
            job.outcome.set_result(result)  # type: ignore[arg-type]  # no error, so it is what the work returned

    def _interrupt(self, job: _Job[Any] | None) -> None:
        for thread in self._threads:
            thread.interrupt(job)


class _DatabaseThread:
    """Run jobs in one thread, on its own session."""

    def __init__(self, session: Session, jobs: SimpleQueue[_Job[Any]], finish: Callable[..., None], name: str) -> None:
        self._session = session
        self._jobs = jobs
        self._finish = finish
        # Held to change the job and to interrupt it, so that no interruption hits the next job.
        self._changing = Lock()
        self._job: _Job[Any] | None = None
        self._interruptions: list[Thread] = []
        self._thread = self._start(self._run, name)

    def interrupt(self, job: _Job[Any] | None) -> None:
        """Interrupt the statement of this job (None: any), from a thread of its own: a server may be slow to answer."""
        if self._job is not None and job in (None, self._job):
            self._interruptions.append(self._start(lambda: self._interrupt(job), f"{self._thread.name}-interruption"))

    def join(self) -> None:
        """Wait for the thread to end."""
        for thread in (self._thread, *self._interruptions):
            thread.join()

    def _start(self, run: Callable[[], None], name: str) -> Thread:
        thread = Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _interrupt(self, job: _Job[Any] | None) -> None:
        with self._changing:
            if self._job is not None and job in (None, self._job):
                self._session.interrupt()

    def _run(self) -> None:
        while (job := self._jobs.get()).work is not None:
            result, error = None, None
            # Skip a job that was cancelled before it began.
            if not job.outcome.cancelled():
                with self._changing:
                    self._job = job
                try:
                    result = job.work(self._session)
                except BaseException as caught:  # noqa: BLE001 (it is the caller's; the thread has to live)
                    error = caught
                with self._changing:
                    self._job = None
            self._answer(job, result, error)
            del job, result, error
            self._session.maintain_log()
        with suppress(Exception):
            self._session.close()
        self._answer(job, None, None)

    def _answer(self, job: _Job[Any], result: object, error: BaseException | None) -> None:
        # In a closed loop nothing waits for the outcome.
        with suppress(RuntimeError):
            job.loop.call_soon_threadsafe(self._finish, job, result, error)
