"""Threads with a session of the database each, which run what the event loop hands them. Must not know what that is."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from app.deadline import Deadline
from app.storage.session import Session

T = TypeVar("T")


class _Job(Generic[T]):
    """One call of `work` in a thread, and the future that the loop waits for. Without work: the thread's end."""

    __slots__ = ("loop", "outcome", "work")

    def __init__(self, work: Callable[[Session], T] | None) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self.loop.create_future()


class Workers:
    """Up to `size` threads, started when they are needed. `open_session` makes the session of each."""

    def __init__(self, open_session: Callable[[], Session], size: int, name: str) -> None:
        self._open_session = open_session
        self._size = size
        self._name = name
        self._jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        self._workers: list[_Worker] = []
        self.busy = 0

    def submit(self, work: Callable[[Session], T]) -> asyncio.Future[T]:
        """Have a thread run this, as soon as one is free; needs a running loop. Cancelling the future ends nothing."""
        return self._hand_in(_Job(work)).outcome

    async def run(self, work: Callable[[Session], T], deadline: Deadline) -> T:
        """Wait for what a thread makes of this. At the deadline TimeoutError, and the statement is ended."""
        job = self._hand_in(_Job(work))
        try:
            with deadline.block():
                return await job.outcome
        finally:
            if job.outcome.cancelled():
                self._interrupt(job)
            # Its error knows this frame, and all that the call had at hand.
            del job

    def interrupt(self) -> None:
        """End the statements that run now."""
        self._interrupt(None)

    async def aclose(self, timeout: float) -> None:  # noqa: ASYNC109 (of threads, not of this task)
        """Let each thread end its work and close its session. One that has not done so in time is left to itself."""
        ends = [self._hand_in(_Job[None](None)).outcome for _ in self._workers]
        if ends:
            _, late = await asyncio.wait(ends, timeout=timeout)
            if not late:
                for worker in self._workers:
                    worker.join()
        self._workers.clear()

    def _hand_in(self, job: _Job[T]) -> _Job[T]:
        self.busy += 1
        if len(self._workers) < min(self.busy, self._size):
            self._workers.append(_Worker(self._open_session(), self._jobs, self._take_back, self._name))
        self._jobs.put(job)
        return job

    def _take_back(self, job: _Job[T], result: T | None, error: BaseException | None) -> None:
        self.busy -= 1
        if job.outcome.done():
            return
        if error is not None:
            job.outcome.set_exception(error)
        else:
            job.outcome.set_result(result)  # type: ignore[arg-type]  # no error, so it is what the work returned

    def _interrupt(self, job: _Job[Any] | None) -> None:
        for worker in self._workers:
            worker.interrupt(job)


class _Worker:
    """One thread and its session."""

    def __init__(
        self, session: Session, jobs: SimpleQueue[_Job[Any]], take_back: Callable[..., None], name: str
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._take_back = take_back
        # Held to change the job and to interrupt it: no interruption ever meets the job after the one it was meant for.
        self._changing = Lock()
        self._job: _Job[Any] | None = None
        self._interruptions: list[Thread] = []
        self._thread = self._start(self._run, name)

    def interrupt(self, job: _Job[Any] | None) -> None:
        """End the statement of this job (None: any). Its own thread asks, because a server may be slow to answer."""
        if self._job is not None and job in (None, self._job):
            self._interruptions.append(self._start(lambda: self._interrupt(job), f"{self._thread.name}-interruption"))

    def join(self) -> None:
        """Wait for the thread, which has been told to end."""
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
            # Nobody waits any more for a job that was cancelled before it began.
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
            self._session.rest()
        with suppress(Exception):
            self._session.close()
        self._answer(job, None, None)

    def _answer(self, job: _Job[Any], result: object, error: BaseException | None) -> None:
        # A loop that is closed has nobody waiting in it.
        with suppress(RuntimeError):
            job.loop.call_soon_threadsafe(self._take_back, job, result, error)
