"""Time out an idle connection by one timer, which is moved only when it fires."""

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Call `expired` once nothing has restarted the timer for `patience()` seconds.

    `patience` returns at most `longest`, or None while nothing has to come: the timer checks again after `longest`.
    """

    def __init__(self, longest: float, patience: Callable[[], float | None], expired: Callable[[], None]) -> None:
        self._longest = longest
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0

    @property
    def seconds(self) -> float:
        """Return the time since the last restart."""
        return self._loop.time() - self._since

    def restart(self, seconds: float | None = None) -> None:
        """Count from now on; check after `seconds`, where the patience has become less than it was."""
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(seconds or self._longest, self._look)
        elif seconds is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(seconds, self._look)

    def stop(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        patience = self._patience()
        left = self._longest if patience is None else self._since + patience - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._expired()
