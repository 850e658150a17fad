"""Budgets after a kill: what was found of calls is charged with their entries, once, and never beyond the ledger."""

import time

import pytest
from msgspec.structs import replace

from app.state.limit_windows import Claim, Limit
from app.state.records import TokenUsage
from app.state.usage import UsageEntry
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.usage.store import UsageStore

TOKENS = Limit("key_1", "API key", "tokens", "month", 10_000)
DOLLARS = Limit("proj_a", "project", "usd", "day", 10_000)
MINUTE = Limit("key_1", "API key", "tokens", "minute", 10_000)


def lost(name: str, tokens: int = 100, cost: int | None = 7) -> UsageEntry:
    usage = TokenUsage(tokens - 10, 10, 0)
    entry = UsageEntry(
        int(time.time()), "", "proj_a", "key_1", "responses", "m", False, False, usage=usage, cost_nano=cost
    )
    return replace(entry, response_id=name, is_stored=True, attempts=1, account="main/abc")


async def used(limits: DatabaseCounts) -> list[int]:
    return [standing.used for standing in await limits.read([TOKENS, DOLLARS, MINUTE])]


@pytest.fixture
async def drawn(limits: DatabaseCounts) -> DatabaseCounts:
    """A call was granted by estimate, and then its process was killed."""
    await limits.draw([Claim(TOKENS, 30), Claim(DOLLARS, 3), Claim(MINUTE, 30)], "")
    return limits


async def test_what_a_killed_process_had_not_settled_is_charged(drawn: DatabaseCounts, usage: UsageStore) -> None:
    await usage.record([lost("resp_1")], swept=1)
    assert await used(drawn) == [100, 7, 30]
    # Another replica may find it as well.
    await usage.record([lost("resp_1")], swept=1)
    assert await used(drawn) == [100, 7, 30]
    await usage.record([lost("resp_2", 50, None), lost("resp_3", 50)], swept=2)
    assert await used(drawn) == [200, 14, 30]


async def test_what_it_had_settled_is_not_charged_again(limits: DatabaseCounts, usage: UsageStore) -> None:
    await limits.draw([Claim(TOKENS, 100), Claim(DOLLARS, 7)], "")
    await usage.record([lost("resp_1")], swept=1)
    assert await used(limits) == [100, 7, 0]


async def test_a_budget_is_not_charged_for_what_was_used_before_there_was_one(
    limits: DatabaseCounts, usage: UsageStore
) -> None:
    await usage.record([lost("resp_1", 5000)])
    await limits.draw([Claim(TOKENS, 1)], "")
    await usage.record([lost("resp_2", 100)], swept=1)
    assert (await used(limits))[0] == 101


async def test_whoever_has_no_budget_has_none_afterwards(limits: DatabaseCounts, usage: UsageStore) -> None:
    await usage.record([lost("resp_1")], swept=1)
    assert await used(limits) == [0, 0, 0]
