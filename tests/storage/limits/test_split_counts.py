"""Two places that count: what becomes of one when the other fails."""

import pytest

from app.errors import StorageError
from app.state.limit_windows import Claim, Correction, Limit, Standing, Verdict
from app.storage.limits.memory_counts import MemoryCounts
from app.storage.limits.split_counts import SplitCounts
from tests.fakes.counted import BUDGET, REQUESTS, STREAMS


class Away:
    """A place that is out of reach."""

    async def draw(self, *_: object) -> Verdict:
        raise StorageError("away")

    async def reconcile(self, *_: object) -> None:
        raise StorageError("away")

    async def read(self, *_: object) -> list[Standing]:
        raise StorageError("away")


async def used(counts: MemoryCounts, *limits: Limit) -> list[int]:
    return [standing.used for standing in await counts.read(limits)]


async def test_what_passes_is_given_back_when_budgets_are_out_of_reach() -> None:
    passing = MemoryCounts()
    with pytest.raises(StorageError):
        await SplitCounts(passing, Away()).draw([Claim(REQUESTS, 1), Claim(STREAMS, 1), Claim(BUDGET, 5)], "one")
    assert await used(passing, REQUESTS, STREAMS) == [0, 0]


async def test_no_budget_is_asked_when_what_passes_cannot_be_counted() -> None:
    budgets = MemoryCounts()
    with pytest.raises(StorageError):
        await SplitCounts(Away(), budgets).draw([Claim(REQUESTS, 1), Claim(BUDGET, 5)], "")
    assert await used(budgets, BUDGET) == [0]


@pytest.mark.parametrize("is_passing_away", [True, False])
async def test_each_place_is_settled_whatever_becomes_of_the_other(is_passing_away: bool) -> None:
    there = MemoryCounts()
    counts = SplitCounts(Away(), there) if is_passing_away else SplitCounts(there, Away())
    limit = BUDGET if is_passing_away else STREAMS
    began_at = (await there.draw([Claim(limit, 1)], "one")).standings[0].began_at
    with pytest.raises(StorageError):
        await counts.reconcile([Correction(STREAMS, -1, began_at), Correction(BUDGET, -1, began_at)], "one")
    assert await used(there, limit) == [0]
    # What needs only the place that is there is served.
    assert (await counts.draw([Claim(limit, 1)], "two")).refused is None
