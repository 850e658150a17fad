"""What is used of minutes, and of streams, in the memory of a process that is alone. Must not know budgets.

Budgets have to be there after a restart; what is over within a minute need not.
"""

import time
from collections.abc import Callable, Collection, Sequence

from app.state.limits import Claim, Correction, Count, Key, Limit, Standing, Verdict, correct, current, grant, standing

# Counts whose window is over are forgotten when there are so many.
_MANY = 10_000


class LocalCounts:
    """Counts of this process. `clock` is monotonic, in seconds. Nothing here fails."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Orders in the background are kept with the time of their window, over a restart. The clock may jump later on.
        self._epoch = time.time() - clock()
        self._counts: dict[Key, Count] = {}
        self._many = _MANY

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:  # noqa: ARG002 - a stream ends with us
        """Grant all of these claims or none."""
        verdict = grant(self._counts, claims, self._now)
        self._forget()
        return verdict

    async def settle(self, corrections: Sequence[Correction], stream: str) -> None:  # noqa: ARG002 - idem
        """Correct what was drawn."""
        correct(self._counts, corrections, self._now)

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """How these limits stand."""
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
