"""What is used of limits, wherever it is counted: exact at once and over processes, by windows, corrected."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from app.state.limit_windows import NEVER, Claim, Correction, Counts, Limit
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.limits.memory_counts import MemoryCounts
from app.storage.limits.split_counts import SplitCounts
from app.storage.limits.valkey_counts import ValkeyCounts
from tests.fakes.counted import BUDGET, REQUESTS, SHARED, STREAMS, TOKENS, granted, shift
from tests.fakes.valkey import PATIENCE, ValkeyServer

KINDS = {"sqlite": "sqlite", "postgresql": "postgresql", "memory": "sqlite", "valkey": "sqlite"}


@dataclass
class Processes:
    """Two that count together. In memory it is the same one; `budgets` are there after it."""

    one: Counts
    other: Counts
    budgets: Counts
    later: Callable[[], Awaitable[object]]
    """A minute goes by."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{KINDS[kind]}_url"))


@pytest.fixture
async def processes(
    kind: str, limits: DatabaseCounts, other_limits: DatabaseCounts, request: pytest.FixtureRequest
) -> AsyncIterator[Processes]:
    if kind == "valkey":
        server: ValkeyServer = request.getfixturevalue("valkey")
        first, second = (ValkeyCounts(server.url, timeout=PATIENCE) for _ in range(2))
        yield Processes(
            SplitCounts(first, limits), SplitCounts(second, other_limits), other_limits, lambda: age_windows(server.url)
        )
        await first.aclose()
        await second.aclose()
    elif kind == "memory":
        offset = 0

        async def later() -> None:
            nonlocal offset
            offset += 60

        alone = SplitCounts(MemoryCounts(lambda: time.monotonic() + offset), limits)
        yield Processes(alone, alone, other_limits, later)
    else:
        yield Processes(limits, other_limits, other_limits, lambda: shift(limits, -60_000))


async def used(counts: Counts, *limits: Limit) -> list[int]:
    return [standing.used for standing in await counts.read(limits)]


async def test_two_hundred_calls_at_once_on_a_limit_of_ten_are_ten(processes: Processes) -> None:
    draws = [counts.draw([Claim(REQUESTS, 1)], "") for _ in range(100) for counts in (processes.one, processes.other)]
    assert granted(await asyncio.gather(*draws)) == 10
    assert await used(processes.one, REQUESTS) == [10]


async def test_a_projects_limit_holds_for_its_keys_together(processes: Processes) -> None:
    second = Limit("key_2", "API key", "requests", "minute", 10)
    one, other = processes.one, processes.other
    draws = [
        counts.draw([Claim(own, 1), Claim(SHARED, 1)], "")
        for _ in range(20)
        for counts, own in ((one, REQUESTS), (other, second), (one, second), (other, REQUESTS))
    ]
    assert granted(await asyncio.gather(*draws)) == 15
    of_keys = await used(one, REQUESTS, second)
    assert [sum(of_keys)] == await used(other, SHARED) == [15]


async def test_a_window_that_is_over_is_followed_by_a_new_one(processes: Processes) -> None:
    await asyncio.gather(*(processes.one.draw([Claim(REQUESTS, 1)], "") for _ in range(10)))
    refused = (await processes.one.draw([Claim(REQUESTS, 1)], "")).refused
    assert refused is not None
    assert 0 < refused.rest_ms <= 60_000
    await processes.later()
    verdict = await processes.other.draw([Claim(REQUESTS, 1)], "")
    assert verdict.refused is None
    assert verdict.standings[0].used == 1


async def test_what_a_call_used_replaces_what_was_taken_for_it(processes: Processes) -> None:
    verdict = await processes.one.draw([Claim(TOKENS, 600), Claim(BUDGET, 500)], "")
    at = [standing.began_at for standing in verdict.standings]
    assert (await processes.one.draw([Claim(TOKENS, 600)], "")).refused is not None
    await processes.other.reconcile([Correction(TOKENS, -500, at[0]), Correction(BUDGET, 700, at[1])], "")
    assert await used(processes.one, TOKENS, BUDGET) == [100, 1200]
    assert (await processes.one.draw([Claim(BUDGET, 0)], "")).refused is not None
    await processes.one.reconcile([Correction(TOKENS, -500, at[0])], "")
    assert await used(processes.one, TOKENS) == [0]


async def test_what_a_call_used_beyond_its_estimate_counts_though_its_window_is_over(processes: Processes) -> None:
    began_at = (await processes.one.draw([Claim(TOKENS, 600)], "")).standings[0].began_at
    # Where time is moved, it is the windows that are.
    at = began_at - 60_000
    await processes.later()
    await processes.one.reconcile([Correction(TOKENS, -600, at)], "")
    assert await used(processes.other, TOKENS) == [0]
    await processes.other.reconcile([Correction(TOKENS, 900, at)], "")
    assert await used(processes.one, TOKENS) == [900]
    await processes.one.reconcile([Correction(TOKENS, -600, at), Correction(TOKENS, 99, NEVER)], "")
    assert await used(processes.other, TOKENS) == [999]
    refused = (await processes.one.draw([Claim(TOKENS, 2)], "")).refused
    assert refused is not None
    assert 0 < refused.rest_ms <= 60_000
    await processes.later()
    assert (await processes.one.draw([Claim(TOKENS, 600)], "")).refused is None


async def test_a_window_that_begins_with_what_was_used_before_is_corrected_like_any_other(processes: Processes) -> None:
    await processes.one.reconcile([Correction(TOKENS, 400, NEVER), Correction(BUDGET, 400, NEVER)], "")
    drawn = (await processes.other.draw([Claim(TOKENS, 100), Claim(BUDGET, 100)], "")).standings
    assert [one.used for one in drawn] == [500, 500]
    back = [Correction(one.limit, -80, one.began_at) for one in drawn]
    await processes.one.reconcile(back, "")
    assert await used(processes.other, TOKENS, BUDGET) == [420, 420]


async def test_streams_are_counted_until_they_are_settled(processes: Processes) -> None:
    claims, both = [Claim(STREAMS, 1)], (processes.one, processes.other)
    verdicts = await asyncio.gather(*(counts.draw(claims, f"{n}") for n, counts in enumerate(both * 5)))
    assert granted(verdicts) == 2
    held = next(n for n, verdict in enumerate(verdicts) if verdict.refused is None)
    assert await used(processes.one, STREAMS) == [2]
    await processes.one.reconcile([Correction(STREAMS, -1, verdicts[held].standings[0].began_at)], f"{held}")
    assert await used(processes.one, STREAMS) == [1]
    assert (await processes.other.draw(claims, "next")).refused is None


async def test_a_refused_call_takes_nothing(processes: Processes) -> None:
    full = Limit("proj_a", "project", "requests", "minute", 0)
    claims = [Claim(STREAMS, 1), Claim(full, 1), Claim(TOKENS, 7), Claim(BUDGET, 5)]
    refused = (await processes.one.draw(claims, "one")).refused
    assert refused is not None
    assert refused.limit == full
    assert await used(processes.one, STREAMS, full, TOKENS, BUDGET) == [0, 0, 0, 0]


async def test_a_call_that_its_budget_refuses_is_none_of_any_other_limit(processes: Processes) -> None:
    claims = [Claim(REQUESTS, 1), Claim(BUDGET, 600), Claim(STREAMS, 1)]
    first = await processes.one.draw(claims, "one")
    assert [standing.limit for standing in first.standings] == [REQUESTS, BUDGET, STREAMS]
    second = await processes.one.draw(claims, "two")
    assert second.refused is not None
    assert second.refused.limit == BUDGET
    assert [(one.limit, one.used) for one in second.standings] == [(REQUESTS, 1), (BUDGET, 600), (STREAMS, 1)]
    assert await used(processes.other, REQUESTS, BUDGET, STREAMS) == [1, 600, 1]
    # What is bought stays bought, whatever becomes of the process.
    assert await used(processes.budgets, BUDGET) == [600]
    await processes.other.reconcile([Correction(BUDGET, -300, first.standings[1].began_at)], "one")
    assert (await processes.one.draw(claims, "two")).refused is None


async def age_windows(url: str) -> None:
    """Have a minute gone by for all windows of this server."""
    async with Redis.from_url(url, protocol=2) as client:
        async for name in client.scan_iter(match="*_per_minute"):
            await client.hincrby(name, "began_at", -60_000)
