"""Supervise the periodic tasks of a process: a step that fails is tried again with back-off, and is seen to fail.

A periodic task repeats one step: the flush of usage entries, the purge, the sync of the pool, the renewal of leases. No
error ends it (ADR 25).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from app.errors import ApiError
from app.relay.process.admission_and_drain import CallRegistry

# Back-off: shorter than a third of every lease, so that no lease runs out while the database is back.
_FIRST_BACK_OFF_SECONDS = 0.5
_LONGEST_BACK_OFF_SECONDS = 4.0

_log = structlog.get_logger("antiphon.duties")


class PeriodicTask(NamedTuple):
    """Repeat a step, `pause` seconds after each that succeeds; without a pause, until one succeeds."""

    name: str
    step: Callable[[], Awaitable[object]]
    pause: float | None


@dataclass(frozen=True, slots=True)
class FailingTask:
    """Report a task whose latest step failed: since when (unix seconds), how many in a row, and the last reason."""

    name: str
    since: int
    failures: int
    reason: str


class PeriodicTasks:
    """Run the periodic tasks of this process. The registry owns their asyncio tasks."""

    def __init__(self, registry: CallRegistry) -> None:
        self._registry = registry
        self._tasks: list[PeriodicTask] = []
        self._failing: dict[str, FailingTask] = {}

    @property
    def names(self) -> Sequence[str]:
        """Return the names of all tasks."""
        return [task.name for task in self._tasks]

    @property
    def failing(self) -> Sequence[FailingTask]:
        """Return the tasks that do not succeed now, the longest first."""
        return sorted(self._failing.values(), key=lambda task: task.since)

    def add(self, *tasks: PeriodicTask) -> None:
        """Add tasks, to be run from the start on."""
        self._tasks += tasks

    def start(self) -> None:
        """Start all tasks."""
        for task in self._tasks:
            self._registry.spawn(self._run(task))

    async def _run(self, task: PeriodicTask) -> None:
        """Repeat the task's step; after a failure wait with back-off."""
        back_off = _FIRST_BACK_OFF_SECONDS
        while True:
            try:
                await task.step()
            except Exception as error:  # noqa: BLE001 (whatever it is: the next step may go well)
                self._note_failure(task.name, error)
                await asyncio.sleep(back_off)
                back_off = min(2 * back_off, _LONGEST_BACK_OFF_SECONDS)
                continue
            back_off = _FIRST_BACK_OFF_SECONDS
            self._note_success(task.name)
            if task.pause is None:
                return
            await asyncio.sleep(task.pause)

    def _note_failure(self, name: str, error: Exception) -> None:
        before = self._failing.get(name)
        # The text of an error that is not ours can quote secrets.
        reason = error.message if isinstance(error, ApiError) else type(error).__name__
        if before is None:
            self._failing[name] = FailingTask(name, int(time.time()), 1, reason)
            # The operator gets the trace of what nobody foresaw.
            trace = {} if isinstance(error, ApiError) else {"exc_info": error}
            _log.warning("a background duty fails, and is tried again", duty=name, reason=reason, **trace)
        else:
            self._failing[name] = FailingTask(name, before.since, before.failures + 1, reason)

    def _note_success(self, name: str) -> None:
        before = self._failing.pop(name, None)
        if before is not None:
            seconds = int(time.time()) - before.since
            _log.info("a background duty goes on", duty=name, failures=before.failures, seconds=seconds)
