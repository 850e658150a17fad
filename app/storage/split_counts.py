"""Budgets counted in one place, and what is over within a minute in another. Must not know either place.

Budgets have to be there after a restart: a commit before the call and one after. Minutes and streams need neither.
"""

from collections.abc import Collection, Sequence

from app.state.limits import Claim, Correction, Counts, Limit, Standing, Verdict


class SplitCounts:
    """Counts minutes and streams in `passing`, and budgets in `budgets`. What fails there is a StorageError here."""

    def __init__(self, passing: Counts, budgets: Counts) -> None:
        self._passing = passing
        self._budgets = budgets

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        """Grant all of these claims or none: what passes is taken first, and given back where a budget refuses."""
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
                await self._passing.settle(back, stream)
        by_limit = {one.limit: one for one in (*ours.standings, *theirs.standings)}
        if theirs.refused is not None:
            for limit, amount in passing:
                by_limit[limit] = by_limit[limit]._replace(used=by_limit[limit].used - amount)
        return Verdict(tuple([by_limit[claim.limit] for claim in claims]), theirs.refused)

    async def settle(self, corrections: Sequence[Correction], stream: str) -> None:
        """Correct what was drawn, in either place whatever becomes of the other."""
        passing = [correction for correction in corrections if not correction.limit.is_budget]
        kept = [correction for correction in corrections if correction.limit.is_budget]
        try:
            if passing:
                await self._passing.settle(passing, stream)
        finally:
            if kept:
                await self._budgets.settle(kept, stream)

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """How these limits stand."""
        passing = [limit for limit in limits if not limit.is_budget]
        kept = [limit for limit in limits if limit.is_budget]
        ours = await self._passing.read(passing) if passing else []
        theirs = await self._budgets.read(kept) if kept else []
        by_limit = {one.limit: one for one in (*ours, *theirs)}
        return [by_limit[limit] for limit in limits]
