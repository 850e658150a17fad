"""Count rate limits and streams in the memory of a process that is alone; nothing is kept over a restart.

Budgets have to survive a restart, so the database counts them.
"""

import time
from collections.abc import Callable, Collection, Sequence

from app.state.limit_windows import (
    Claim,
    Correction,
    Count,
    Key,
    Limit,
    Standing,
    Verdict,
    correct,
    current,
    grant,
    standing,
)

# Counts whose window is over are removed when there are so many.
_MANY = 10_000


class MemoryCounts:
    """Count in memory. `clock` is monotonic, in seconds. No method fails."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Runs keep the time of their window over a restart, so it is wall time; it does not follow later jumps of the
        # clock.
        self._epoch = time.time() - clock()
        self._counts: dict[Key, Count] = {}
        self._many = _MANY

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:  # noqa: ARG002 - a stream ends with us
        """Grant all of these claims or none."""
        verdict = grant(self._counts, claims, self._now)
        self._forget()
        return verdict

    async def reconcile(self, corrections: Sequence[Correction], stream: str) -> None:  # noqa: ARG002 - idem
        """Correct what was drawn."""
        correct(self._counts, corrections, self._now)

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """Return how these limits stand."""
        now = self._now
        return [standing(limit, current(self._counts.get(limit.key), limit, now), now) for limit in limits]

    @property
    def _now(self) -> int:
        return int((self._epoch + self._clock()) * 1000)

    def _forget(self) -> None:
        if len(self._counts) > self._many:
            now = self._now
            self._counts = {
                key: count
                for key, count in self._counts.items()
                if count.ends_at > now and (count.used or key[1] != "concurrent_streams")
            }
            self._many = max(_MANY, 2 * len(self._counts))
