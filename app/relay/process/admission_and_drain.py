"""Admit calls, own the tasks of this process, and end both at shutdown: drain, then cancel."""

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from app.errors import OverloadedError
from app.runtime import storage_time
from app.runtime.byte_budget import ByteBudget, Reservation
from app.runtime.deadline import Deadline
from app.runtime.fair_queue import FairQueue, share

# As many calls may wait as have slots, but at least so many.
_LEAST_WAITING = 64


def _end_nothing() -> None:
    """Let a call go on that nobody can shorten."""


class AdmittedCall:
    """Hold an admitted call's slot, as a context. `bytes` is its reservation, released with the slot.

    `continues` is the row of the stored turn that the call continues, if any, and `response_id` the response it has
    made.
    """

    __slots__ = ("_end", "_has_to_end", "_registry", "bytes", "continues", "project_id", "response_id")

    def __init__(self, registry: "CallRegistry", project_id: str, end: Callable[[], None], held: Reservation) -> None:
        self._registry = registry
        self._end = end
        self._has_to_end = False
        self.project_id = project_id
        self.bytes = held
        self.continues: int | None = None
        self.response_id: str | None = None

    def on_shutdown(self, end: Callable[[], None]) -> None:
        """Set how the call is asked to finish early, from now on; ask at once if it was asked already."""
        self._end = end
        if self._has_to_end:
            end()

    def end(self) -> None:
        """Ask the call to finish early, because the process stops."""
        self._has_to_end = True
        self._end()

    def release(self) -> None:
        """Release the slot and its bytes now: the call is over, though its context is not."""
        self.bytes.shrink(0)
        self._registry.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()


class CallRegistry:
    """Own every task that outlives an await, and count the calls in flight.

    At most `max_calls` have a slot, and seven eighths of them (always one) may be one project's, so that another
    project finds one. A call without a slot waits `wait_seconds` for it, in a queue that is fair among projects.
    Clients that listen to background responses have as many slots of their own, shared in the same way: they keep no
    call out. Invariant: no task is left running once `aclose` has returned.
    """

    def __init__(self, max_calls: int, budget: ByteBudget | None = None, wait_seconds: float = 0.0) -> None:
        self.budget = budget or ByteBudget(sys.maxsize)
        self._max_calls = max_calls
        self._share = share(max_calls)
        self._most_waiting = max(max_calls, _LEAST_WAITING)
        self._wait_seconds = wait_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._admitted: set[AdmittedCall] = set()
        self._held: dict[str, int] = {}
        self._listeners: set[AdmittedCall] = set()
        self._listening: dict[str, int] = {}
        self._queue = FairQueue[Callable[[], None], AdmittedCall](self._held_by)
        self._on_closing: set[Callable[[], None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Tell whether new calls are admitted."""
        return not self._closed

    @property
    def continued(self) -> Collection[int]:
        """Return the rows of the stored turns that calls in flight continue."""
        return {admitted.continues for admitted in self._admitted if admitted.continues is not None}

    def admit_now(
        self, project_id: str, end: Callable[[], None] = _end_nothing, *, only_ends: bool = False
    ) -> AdmittedCall:
        """Admit one call, which has to be entered at once. Raises OverloadedError where no slot is free now.

        A run that `only_ends` is always admitted.
        """
        if self._closed:
            raise shutting_down()
        if not only_ends and not self._has_room(project_id):
            raise self._full()
        return self._take(project_id, end)

    async def admit(self, project_id: str, end: Callable[[], None] = _end_nothing) -> AdmittedCall:
        """Admit one call, which waits for its slot. Raises OverloadedError where none is free in time."""
        if self._closed:
            raise shutting_down()
        queue = self._queue
        if not (queue.count and queue.count_of(project_id)) and self._has_room(project_id):
            return self._take(project_id, end)
        if (
            self._wait_seconds <= 0
            or queue.count >= self._most_waiting
            or queue.count_of(project_id) >= share(self._most_waiting)
        ):
            raise self._full()
        waiter = queue.join(project_id, end)
        try:
            with Deadline(self._wait_seconds).block():
                return await waiter.granted
        except BaseException as error:
            late = queue.leave(waiter)
            if late is not None:
                self.release(late)
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise

    def listen(
        self, project_id: str, end: Callable[[], None] = _end_nothing, *, is_admitted: bool = False
    ) -> AdmittedCall:
        """Admit one listener, which has to be entered at once. Raises OverloadedError where no slot is free now.

        A listener that `is_admitted` has a call's slot, and listens also where admission has closed since.
        """
        if self._closed and not is_admitted:
            raise shutting_down()
        if len(self._listeners) >= self._max_calls or self._listening.get(project_id, 0) >= self._share:
            raise OverloadedError(
                f"{self._max_calls} clients already listen to responses in the background here. "
                "Please retry in a few seconds.",
                headers={"retry-after": "2"},
            )
        admitted = AdmittedCall(self, project_id, end, Reservation(self.budget, project_id))
        self._idle.clear()
        self._listeners.add(admitted)
        self._listening[project_id] = self._listening.get(project_id, 0) + 1
        return admitted

    def release(self, admitted: AdmittedCall) -> None:
        """Release the slot to the next waiting call."""
        try:
            self._admitted.remove(admitted)
        except KeyError:
            # A listener's slot, or a slot that was released before.
            self._release_listener(admitted)
            return
        left = self._held[admitted.project_id] - 1
        if left:
            self._held[admitted.project_id] = left
        else:
            del self._held[admitted.project_id]
        if self._queue.count:
            self._hand_out()
        if not self._admitted and not self._listeners:
            self._idle.set()

    @contextmanager
    def when_closing(self, closing: Callable[[], None]) -> Iterator[None]:
        """Call `closing` when admission closes while this context is open, at once if it is closed already."""
        self._on_closing.add(closing)
        try:
            if self._closed:
                closing()
            yield
        finally:
            self._on_closing.discard(closing)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that shutdown will cancel and wait for."""
        task = asyncio.create_task(work, context=storage_time.context_without_call())  # noqa: TID251 - this is the one place that starts tasks
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, budget_seconds: float, ending_seconds: float) -> None:
        """Close admission, give live calls the budget to finish by themselves, then ask the rest to end properly."""
        self._closed = True
        self._queue.refuse_all(shutting_down())
        for closing in list(self._on_closing):
            closing()
        with suppress(TimeoutError):
            async with asyncio.timeout(budget_seconds):
                await self._idle.wait()
        for admitted in [*self._admitted, *self._listeners]:
            admitted.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(ending_seconds):
                await self._idle.wait()

    async def aclose(self) -> None:
        """Cancel the owned tasks and wait for their end."""
        self._closed = True
        # A task that is cancelled may start another on its way out.
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _release_listener(self, admitted: AdmittedCall) -> None:
        if admitted not in self._listeners:
            return
        self._listeners.remove(admitted)
        self._listening[admitted.project_id] -= 1
        if not self._listening[admitted.project_id]:
            del self._listening[admitted.project_id]
        if not self._admitted and not self._listeners:
            self._idle.set()

    def _has_room(self, project_id: str) -> bool:
        return len(self._admitted) < self._max_calls and self._held.get(project_id, 0) < self._share

    def _held_by(self, project_id: str) -> int:
        return self._held.get(project_id, 0)

    def _take(self, project_id: str, end: Callable[[], None]) -> AdmittedCall:
        admitted = AdmittedCall(self, project_id, end, Reservation(self.budget, project_id))
        if not self._admitted:
            self._idle.clear()
        self._admitted.add(admitted)
        self._held[project_id] = self._held.get(project_id, 0) + 1
        return admitted

    def _hand_out(self) -> None:
        for waiter in self._queue.in_turn():
            if self._has_room(waiter.project_id):
                self._queue.grant(waiter, self._take(waiter.project_id, waiter.item))
                return

    def _full(self) -> OverloadedError:
        return OverloadedError(
            f"The gateway already serves {self._max_calls} calls at once. Please retry in a few seconds.",
            headers={"retry-after": "2"},
        )


def shutting_down() -> OverloadedError:
    """Return the error of a call that the stop of this process refuses, or ends before its answer began."""
    return OverloadedError("The gateway is shutting down. Please retry your request.", headers={"retry-after": "1"})
