"""The calls and tasks of this process: admission, ownership and the end of both at shutdown."""

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from app import allowance
from app.byte_budget import ByteBudget, Reservation
from app.deadline import Deadline
from app.errors import OverloadedError
from app.fair_queue import FairQueue, share

# As many calls wait as have places; where these are few, so many.
_LEAST_WAITING = 64


def _end_nothing() -> None:
    """Let a call go on that nobody can shorten."""


class Place:
    """An admitted call of this project, as a context. `bytes` are those that it holds, given back with the place.

    `continues` is the row of the stored turn that the call continues, if any, and `response_id` what it has made.
    """

    __slots__ = ("_end", "_has_to_end", "_registry", "bytes", "continues", "project_id", "response_id")

    def __init__(self, registry: "Registry", project_id: str, end: Callable[[], None], held: Reservation) -> None:
        self._registry = registry
        self._end = end
        self._has_to_end = False
        self.project_id = project_id
        self.bytes = held
        self.continues: int | None = None
        self.response_id: str | None = None

    def ends_by(self, end: Callable[[], None]) -> None:
        """Have the call asked in this way to finish early, from now on; at once if it was asked already."""
        self._end = end
        if self._has_to_end:
            end()

    def end(self) -> None:
        """Ask the call to finish early, because the process stops."""
        self._has_to_end = True
        self._end()

    def release(self) -> None:
        """Give the place and its bytes back now: the call is over, though its context is not."""
        self.bytes.shrink(0)
        self._registry.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()


class Registry:
    """Owns every task that outlives an await, and counts the calls in flight.

    At most `max_calls` have a place, and of one project seven eighths of them (always one): another project finds one.
    A call without waits `wait_seconds` for it, in a queue that is fair among projects. Clients that listen to responses
    in the background have as many places beside these, shared in the same way: they keep no call out.
    Invariant: nothing here is left running once `aclose` has returned.
    """

    def __init__(self, max_calls: int, budget: ByteBudget | None = None, wait_seconds: float = 0.0) -> None:
        self.budget = budget or ByteBudget(sys.maxsize)
        self._max_calls = max_calls
        self._share = share(max_calls)
        self._most_waiting = max(max_calls, _LEAST_WAITING)
        self._wait_seconds = wait_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._places: set[Place] = set()
        self._held: dict[str, int] = {}
        self._listeners: set[Place] = set()
        self._listening: dict[str, int] = {}
        self._queue = FairQueue[Callable[[], None], Place](self._held_by)
        self._on_closing: set[Callable[[], None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether new calls are admitted."""
        return not self._closed

    @property
    def continued(self) -> Collection[int]:
        """The rows of the stored turns that calls under way continue."""
        return {place.continues for place in self._places if place.continues is not None}

    def place(self, project_id: str, end: Callable[[], None] = _end_nothing, *, only_ends: bool = False) -> Place:
        """A place for one call, which has to be entered at once. Raises OverloadedError where there is none now.

        For what `only_ends` there always is one.
        """
        if self._closed:
            raise _closing()
        if not only_ends and not self._has_room(project_id):
            raise self._full()
        return self._take(project_id, end)

    async def admit(self, project_id: str, end: Callable[[], None] = _end_nothing) -> Place:
        """The same, for a call that waits for its place. Raises OverloadedError where there is none in time."""
        if self._closed:
            raise _closing()
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

    def listen(self, project_id: str, end: Callable[[], None] = _end_nothing, *, is_admitted: bool = False) -> Place:
        """A place for one listener, which has to be entered at once. Raises OverloadedError where there is none now.

        Whoever `is_admitted` has a call's place, and listens also where admission has closed since.
        """
        if self._closed and not is_admitted:
            raise _closing()
        if len(self._listeners) >= self._max_calls or self._listening.get(project_id, 0) >= self._share:
            raise OverloadedError(
                f"{self._max_calls} clients already listen to responses in the background here. "
                "Please retry in a few seconds.",
                headers={"retry-after": "2"},
            )
        place = Place(self, project_id, end, Reservation(self.budget, project_id))
        self._idle.clear()
        self._listeners.add(place)
        self._listening[project_id] = self._listening.get(project_id, 0) + 1
        return place

    def release(self, place: Place) -> None:
        """Give the place to whose turn it is."""
        try:
            self._places.remove(place)
        except KeyError:
            # A listener's, or one that was given back before.
            self._release_listener(place)
            return
        left = self._held[place.project_id] - 1
        if left:
            self._held[place.project_id] = left
        else:
            del self._held[place.project_id]
        if self._queue.count:
            self._hand_out()
        if not self._places and not self._listeners:
            self._idle.set()

    @contextmanager
    def telling(self, closing: Callable[[], None]) -> Iterator[None]:
        """Within this context `closing` is called when admission closes, at once if it is: no call follows."""
        self._on_closing.add(closing)
        try:
            if self._closed:
                closing()
            yield
        finally:
            self._on_closing.discard(closing)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that shutdown will cancel and wait for."""
        task = asyncio.create_task(work, context=allowance.outside())  # noqa: TID251 - this is the one place that starts tasks
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, budget_seconds: float, ending_seconds: float) -> None:
        """Close admission, give live calls the budget to finish by themselves, then ask the rest to end properly."""
        self._closed = True
        self._queue.refuse_all(_closing())
        for closing in list(self._on_closing):
            closing()
        with suppress(TimeoutError):
            async with asyncio.timeout(budget_seconds):
                await self._idle.wait()
        for place in [*self._places, *self._listeners]:
            place.end()
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

    def _release_listener(self, place: Place) -> None:
        if place not in self._listeners:
            return
        self._listeners.remove(place)
        self._listening[place.project_id] -= 1
        if not self._listening[place.project_id]:
            del self._listening[place.project_id]
        if not self._places and not self._listeners:
            self._idle.set()

    def _has_room(self, project_id: str) -> bool:
        return len(self._places) < self._max_calls and self._held.get(project_id, 0) < self._share

    def _held_by(self, project_id: str) -> int:
        return self._held.get(project_id, 0)

    def _take(self, project_id: str, end: Callable[[], None]) -> Place:
        place = Place(self, project_id, end, Reservation(self.budget, project_id))
        if not self._places:
            self._idle.clear()
        self._places.add(place)
        self._held[project_id] = self._held.get(project_id, 0) + 1
        return place

    def _hand_out(self) -> None:
        for waiter in self._queue.in_turn():
            if self._has_room(waiter.project_id):
                self._queue.grant(waiter, self._take(waiter.project_id, waiter.wish))
                return

    def _full(self) -> OverloadedError:
        return OverloadedError(
            f"The gateway already serves {self._max_calls} calls at once. Please retry in a few seconds.",
            headers={"retry-after": "2"},
        )


def _closing() -> OverloadedError:
    return OverloadedError("The gateway is shutting down. Please retry your request.", headers={"retry-after": "1"})
