"""The runs and tasks of this process: admission, ownership and the end of both at shutdown."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app import allowance
from app.errors import OverloadedError


class Run:
    """An admitted call, as a context."""

    __slots__ = ("_end", "_registry")

    def __init__(self, registry: "Registry", end: Callable[[], None]) -> None:
        self._registry = registry
        self._end = end

    def __enter__(self) -> None:
        self._registry.admit(self._end)

    def __exit__(self, *_: object) -> None:
        self._registry.release(self._end)


class Registry:
    """Owns every task that outlives an await, and counts the calls in flight.

    Invariant: nothing here is left running once `aclose` has returned.
    """

    def __init__(self, max_runs: int) -> None:
        self._max_runs = max_runs
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runs: set[Callable[[], None]] = set()
        self._on_closing: set[Callable[[], None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether new calls are admitted."""
        return not self._closed

    def run(self, end: Callable[[], None]) -> Run:
        """A context that admits one call, for its length. `end` asks it to finish early; shutdown uses it."""
        return Run(self, end)

    def admit(self, end: Callable[[], None]) -> None:
        """Count one call more. Raises OverloadedError."""
        if self._closed:
            raise OverloadedError(
                "The gateway is shutting down. Please retry your request.", headers={"retry-after": "1"}
            )
        if len(self._runs) >= self._max_runs:
            raise OverloadedError(
                f"The gateway already serves {self._max_runs} calls at once. Please retry in a few seconds.",
                headers={"retry-after": "2"},
            )
        self._runs.add(end)
        self._idle.clear()

    def release(self, end: Callable[[], None]) -> None:
        """Count the call that was admitted with this `end` no longer."""
        self._runs.discard(end)
        if not self._runs:
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
        """Close admission, give live runs the budget to finish by themselves, then ask the rest to end properly."""
        self._closed = True
        for closing in list(self._on_closing):
            closing()
        with suppress(TimeoutError):
            async with asyncio.timeout(budget_seconds):
                await self._idle.wait()
        for end in list(self._runs):
            end()
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
