"""Supervise the background duties of a process: one that fails is tried again with back-off, and is seen to fail.

A duty is a step that is made again and again: the ledger's flush, the purge, the sync of the pool, the renewal of
leases. No error ends it (ADR 25).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from app.errors import ApiError
from app.relay.registry import Registry

# Back-off: shorter than a third of every lease, so that none runs out because a database that is back was not asked.
_FIRST_BACK_OFF_SECONDS = 0.5
_LONGEST_BACK_OFF_SECONDS = 4.0

_log = structlog.get_logger("antiphon.duties")


class Duty(NamedTuple):
    """A step made again and again, `pause` seconds after each that succeeds; without a pause, until one does."""

    name: str
    step: Callable[[], Awaitable[object]]
    pause: float | None


@dataclass(frozen=True, slots=True)
class Failing:
    """A duty whose latest step failed: since when (unix seconds), how many steps in a row, and what the last said."""

    name: str
    since: int
    failures: int
    reason: str


class Duties:
    """The duties of this process. Their tasks are the registry's."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._duties: list[Duty] = []
        self._failing: dict[str, Failing] = {}

    @property
    def names(self) -> Sequence[str]:
        """All duties."""
        return [duty.name for duty in self._duties]

    @property
    def failing(self) -> Sequence[Failing]:
        """Those that do not succeed now, the longest first."""
        return sorted(self._failing.values(), key=lambda duty: duty.since)

    def add(self, *duties: Duty) -> None:
        """Have these done from the start on."""
        self._duties += duties

    def start(self) -> None:
        """Begin with all of them."""
        for duty in self._duties:
            self._registry.spawn(self._run(duty))

    async def _run(self, duty: Duty) -> None:
        back_off = _FIRST_BACK_OFF_SECONDS
        while True:
            try:
                await duty.step()
            except Exception as error:  # noqa: BLE001 (whatever it is: the next step may go well)
                self._note_failure(duty.name, error)
                await asyncio.sleep(back_off)
                back_off = min(2 * back_off, _LONGEST_BACK_OFF_SECONDS)
                continue
            back_off = _FIRST_BACK_OFF_SECONDS
            self._note_success(duty.name)
            if duty.pause is None:
                return
            await asyncio.sleep(duty.pause)

    def _note_failure(self, name: str, error: Exception) -> None:
        before = self._failing.get(name)
        # The text of an error that is not ours can quote what it failed with.
        reason = error.message if isinstance(error, ApiError) else type(error).__name__
        if before is None:
            self._failing[name] = Failing(name, int(time.time()), 1, reason)
            # The operator gets the trace of what nobody foresaw.
            trace = {} if isinstance(error, ApiError) else {"exc_info": error}
            _log.warning("a background duty fails, and is tried again", duty=name, reason=reason, **trace)
        else:
            self._failing[name] = Failing(name, before.since, before.failures + 1, reason)

    def _note_success(self, name: str) -> None:
        before = self._failing.pop(name, None)
        if before is not None:
            seconds = int(time.time()) - before.since
            _log.info("a background duty goes on", duty=name, failures=before.failures, seconds=seconds)
