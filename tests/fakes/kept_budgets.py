"""Counts of limits, budgets too, in this process and at one moment."""

from collections.abc import Collection, Sequence

from app.state.limit_windows import Claim, Correction, Count, Key, Limit, Standing, Verdict, correct, current, grant
from app.state.limit_windows import standing as standing_of


class KeptBudgets:
    """Counts everything in this process, budgets too."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._counts: dict[Key, Count] = {}

    @property
    def used(self) -> dict[str, int]:
        return {name: count.used for (_, name), count in self._counts.items()}

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        return grant(self._counts, claims, self._now)

    async def reconcile(self, corrections: Sequence[Correction], stream: str) -> None:
        correct(self._counts, corrections, self._now)

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        return [
            standing_of(limit, current(self._counts.get(limit.key), limit, self._now), self._now) for limit in limits
        ]
