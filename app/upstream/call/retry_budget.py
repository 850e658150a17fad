"""Limit retries to a share of recent calls, so that an outage is not multiplied."""

from collections import deque

_WINDOW_SECONDS = 10.0
_SLOT_SECONDS = 1.0
_SHARE = 0.2
_LEAST = 3


class RetryBudget:
    """Allow, within any ten seconds, retries of a fifth of the calls, and three at least. Times are monotonic."""

    def __init__(self) -> None:
        # Start, calls and retries of each second.
        self._slots: deque[list[float]] = deque()
        self._calls = 0.0
        self._retries = 0.0

    def called(self, now: float) -> None:
        """Count a client's call."""
        slots = self._slots
        slot = slots[-1] if slots and now - slots[-1][0] < _SLOT_SECONDS else self._slot(now)
        slot[1] += 1
        self._calls += 1

    def spend(self, now: float) -> bool:
        """Take one retry; return whether one was left."""
        slot = self._slot(now)
        if self._retries >= max(_LEAST, _SHARE * self._calls):
            return False
        slot[2] += 1
        self._retries += 1
        return True

    def _slot(self, now: float) -> list[float]:
        slots = self._slots
        if slots and now - slots[-1][0] < _SLOT_SECONDS:
            return slots[-1]
        while slots and now - slots[0][0] >= _WINDOW_SECONDS + _SLOT_SECONDS:
            _, calls, retries = slots.popleft()
            self._calls -= calls
            self._retries -= retries
        slots.append([now, 0.0, 0.0])
        return slots[-1]
