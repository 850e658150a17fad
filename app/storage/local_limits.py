"""What is used of limits, for a process alone with its database: minutes and streams here, budgets in the database.

Budgets have to be there after a restart, and are exact for it: a commit before the call and one after. What is over
within a minute needs neither.
"""

import time
from collections.abc import Callable, Collection, Sequence

from app.state.limits import (
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
from app.storage.limit_store import LimitStore

# Counts whose window is over are forgotten when there are so many.
_MANY = 10_000


class LocalLimits:
    """Counts as the LimitStore does. `clock` is monotonic, in seconds."""

    def __init__(self, store: LimitStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        # Orders in the background are known by the time of day, which may jump later on.
        self._epoch = time.time() - clock()
        self._counts: dict[Key, Count] = {}
        self._many = _MANY

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        """Grant all of these claims or none. Raises StorageError."""
        here = [claim for claim in claims if not claim.limit.is_budget]
        kept = [claim for claim in claims if claim.limit.is_budget]
        verdict = grant(self._counts, here, self._now)
        self._forget()
        if verdict.refused is not None or not kept:
            return verdict
        granted = False
        try:
            budgets = await self._store.draw(kept, stream)
            granted = budgets.refused is None
        finally:
            if not granted:
                taken = zip(here, verdict.standings, strict=True)
                correct(self._counts, [Correction(one.limit, -claim.amount, one.began_at) for claim, one in taken])
        ours = verdict.standings if granted else [self._standing(claim.limit) for claim in here]
        by_limit = {one.limit: one for one in (*ours, *budgets.standings)}
        return Verdict(tuple([by_limit[claim.limit] for claim in claims]), budgets.refused)

    async def settle(self, corrections: Sequence[Correction], stream: str) -> None:
        """Correct what was drawn. Raises StorageError."""
        correct(self._counts, [correction for correction in corrections if not correction.limit.is_budget])
        if kept := [correction for correction in corrections if correction.limit.is_budget]:
            await self._store.settle(kept, stream)

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """How these limits stand. Raises StorageError."""
        kept = [limit for limit in limits if limit.is_budget]
        known = {one.limit: one for one in await self._store.read(kept)} if kept else {}
        return [known.get(limit) or self._standing(limit) for limit in limits]

    def _standing(self, limit: Limit) -> Standing:
        now = self._now
        return standing(limit, current(self._counts.get(limit.key), limit, now), now)

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
