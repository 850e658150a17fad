"""Split claims and corrections: budgets go to the database, rate limits and streams to a faster place.

Budgets have to survive a restart: a commit before the call and one after. Rate limits and streams need neither.
"""

from collections.abc import Collection, Sequence

from app.state.limit_windows import Claim, Correction, Counts, Limit, Standing, Verdict


class SplitCounts:
    """Count rate limits and streams in `passing`, and budgets in `budgets`. Raises StorageError as these do."""

    def __init__(self, passing: Counts, budgets: Counts) -> None:
        self._passing = passing
        self._budgets = budgets

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        """Grant all of these claims or none: `passing` grants first, and gets it back where a budget refuses."""
        passing = [claim for claim in claims if not claim.limit.is_budget]
        kept = [claim for claim in claims if claim.limit.is_budget]
        ours = await self._passing.draw(passing, stream) if passing else Verdict(())
        if ours.refused is not None or not kept:
            return ours
        theirs = None
        try:
            theirs = await self._budgets.draw(kept, stream)
        finally:
            if passing and (theirs is None or theirs.refused is not None):
                taken = zip(passing, ours.standings, strict=True)
                back = [Correction(one.limit, -claim.amount, one.began_at) for claim, one in taken]
                await self._passing.reconcile(back, stream)
        by_limit = {one.limit: one for one in (*ours.standings, *theirs.standings)}
        if theirs.refused is not None:
            for limit, amount in passing:
                by_limit[limit] = by_limit[limit]._replace(used=by_limit[limit].used - amount)
        return Verdict(tuple([by_limit[claim.limit] for claim in claims]), theirs.refused)

    async def reconcile(self, corrections: Sequence[Correction], stream: str) -> None:
        """Correct what was drawn in both places, even if the other fails."""
        passing = [correction for correction in corrections if not correction.limit.is_budget]
        kept = [correction for correction in corrections if correction.limit.is_budget]
        try:
            if passing:
                await self._passing.reconcile(passing, stream)
        finally:
            if kept:
                await self._budgets.reconcile(kept, stream)

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """Return how these limits stand."""
        passing = [limit for limit in limits if not limit.is_budget]
        kept = [limit for limit in limits if limit.is_budget]
        ours = await self._passing.read(passing) if passing else []
        theirs = await self._budgets.read(kept) if kept else []
        by_limit = {one.limit: one for one in (*ours, *theirs)}
        return [by_limit[limit] for limit in limits]
