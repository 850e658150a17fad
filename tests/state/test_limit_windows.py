"""The windows of limits, and the rule by which a call is granted: all of its claims or none."""

from datetime import UTC, datetime

import pytest

from app.state.limit_windows import (
    NANO,
    NEVER,
    Claim,
    Correction,
    Count,
    Limit,
    Window,
    correct,
    grant,
    limits_of,
    most_output_tokens,
)
from app.state.policies import Budget, KeyPolicy, Limits, ProjectPolicy
from tests.builders import make_caller

REQUESTS = Limit("key_1", "API key", "requests", "minute", 3)
TOKENS = Limit("proj_a", "project", "tokens", "minute", 100)
STREAMS = Limit("key_1", "API key", "streams", None, 2)


BEYOND = (100, -20, 0)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_so_many_calls_are_granted_within_a_minute_of_the_first_and_no_more() -> None:
    counts: dict[tuple[str, str], Count] = {}
    claims = [Claim(REQUESTS, 1)]
    assert [grant(counts, claims, now).refused is None for now in (1000, 2000, 60_999, 60_999)] == [True] * 3 + [False]
    refused = grant(counts, claims, 60_999).refused
    assert refused is not None
    assert (refused.used, refused.rest_ms) == (3, 1)
    # The next window begins with the next call, whenever that is.
    assert grant(counts, claims, 75_000).standings[0].began_at == 75_000
    assert grant(counts, claims, 134_999).standings[0].used == 2
    assert grant(counts, claims, 135_000).standings[0].used == 1


def test_a_call_is_granted_by_all_limits_or_by_none() -> None:
    counts: dict[tuple[str, str], Count] = {}
    assert grant(counts, [Claim(REQUESTS, 1), Claim(TOKENS, 90)], 0).refused is None
    verdict = grant(counts, [Claim(REQUESTS, 1), Claim(TOKENS, 11)], 10)
    assert verdict.refused is not None
    assert verdict.refused.limit is TOKENS
    assert [one.used for one in verdict.standings] == [1, 90]
    assert grant(counts, [Claim(REQUESTS, 1), Claim(TOKENS, 10)], 10).refused is None


def test_what_is_used_up_refuses_a_call_that_takes_nothing() -> None:
    counts: dict[tuple[str, str], Count] = {}
    assert grant(counts, [Claim(TOKENS, 0)], 0).refused is None
    correct(counts, [Correction(TOKENS, 100, 0)], 0)
    assert grant(counts, [Claim(TOKENS, 0)], 1).refused is not None


def test_of_two_refusals_the_longer_one_is_told() -> None:
    day = Limit("key_1", "API key", "tokens", "day", 10)
    counts: dict[tuple[str, str], Count] = {}
    grant(counts, [Claim(TOKENS, 100), Claim(day, 10)], 0)
    refused = grant(counts, [Claim(TOKENS, 1), Claim(day, 1)], 0).refused
    assert refused is not None
    assert refused.limit is day


def test_what_is_left_is_given_back_to_the_window_that_it_was_taken_from_alone() -> None:
    counts: dict[tuple[str, str], Count] = {}
    grant(counts, [Claim(TOKENS, 50)], 0)
    correct(counts, [Correction(TOKENS, -20, 0)], 59_999)
    assert counts[TOKENS.key].used == 30
    grant(counts, [Claim(TOKENS, 5)], 60_000)
    correct(counts, [Correction(TOKENS, -40, 0)], 60_001)
    correct(counts, [Correction(TOKENS, -40, NEVER)], 60_001)
    assert counts[TOKENS.key].used == 5
    correct(counts, [Correction(TOKENS, -40, 60_000)], 60_001)
    assert counts[TOKENS.key].used == 0


def test_what_was_used_beyond_counts_when_it_is_known() -> None:
    counts: dict[tuple[str, str], Count] = {}
    grant(counts, [Claim(TOKENS, 50)], 0)
    # Nobody has called since: a window begins with it.
    correct(counts, [Correction(TOKENS, 70, 0)], 61_000)
    assert counts[TOKENS.key] == Count(70, 61_000, 121_000)
    correct(counts, [Correction(TOKENS, 20, 0), Correction(TOKENS, 10, NEVER)], 120_000)
    assert counts[TOKENS.key] == Count(100, 61_000, 121_000)
    assert grant(counts, [Claim(TOKENS, 1)], 120_999).refused is not None
    assert grant(counts, [Claim(TOKENS, 1)], 121_000).refused is None


@pytest.mark.parametrize(
    ("window", "before", "after"),
    [
        ("day", "2026-03-01T23:59:59", "2026-03-02T00:00:01"),
        ("week", "2026-11-29T12:00:00", "2026-11-30T12:00:00"),
        ("month", "2026-12-31T23:59:59", "2027-01-02T00:00:01"),
    ],
)
def test_a_budget_counts_what_a_call_of_the_period_before_used_beyond_its_estimate(
    window: Window, before: str, after: str
) -> None:
    limit = Limit("key_1", "API key", "tokens", window, 100)
    counts: dict[tuple[str, str], Count] = {}
    drawn = [grant(counts, [Claim(limit, 30)], at(before)).standings[0].began_at for _ in range(3)]
    correct(counts, [Correction(limit, amount, began) for amount, began in zip(BEYOND, drawn, strict=True)], at(after))
    assert counts[limit.key].used == 100
    assert grant(counts, [Claim(limit, 1)], at(after)).refused is not None


def test_streams_are_counted_while_they_last() -> None:
    counts: dict[tuple[str, str], Count] = {}
    claims = [Claim(STREAMS, 1)]
    assert [grant(counts, claims, now).refused is None for now in (0, 1 << 41, 1 << 42)] == [True, True, False]
    correct(counts, [Correction(STREAMS, -1, 0)], 5)
    assert grant(counts, claims, 5).refused is None


@pytest.mark.parametrize("back_ms", [1, 5_000_000, 10_000_000_000])
def test_a_clock_that_was_set_back_grants_nothing_twice_and_locks_nobody_out(back_ms: int) -> None:
    counts: dict[tuple[str, str], Count] = {}
    before, after = 20_000_000_000, 20_000_000_000 - back_ms
    grant(counts, [Claim(REQUESTS, 3)], before)
    for late_ms in (0, 1, 59_999):
        refused = grant(counts, [Claim(REQUESTS, 1)], after + late_ms).refused
        assert refused is not None
        assert (refused.used, refused.rest_ms) == (3, 60_000 - late_ms)
    assert grant(counts, [Claim(REQUESTS, 1)], after + 60_000).standings[0].used == 1


def test_a_budget_outlives_a_clock_that_was_set_back_into_another_day() -> None:
    limit = Limit("key_1", "API key", "usd", "day", 10)
    counts: dict[tuple[str, str], Count] = {}
    grant(counts, [Claim(limit, 10)], at("2026-03-02T00:00:01"))
    assert grant(counts, [Claim(limit, 1)], at("2026-03-01T23:59:59")).refused is not None
    assert grant(counts, [Claim(limit, 1)], at("2026-03-02T00:00:00")).refused is None


@pytest.mark.parametrize(
    ("window", "now", "begins", "ends"),
    [
        ("day", "2026-03-01T00:00:00", "2026-03-01", "2026-03-02"),
        ("day", "2026-02-28T23:59:59.999", "2026-02-28", "2026-03-01"),
        ("week", "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        ("week", "2026-11-29T23:59:59", "2026-11-23", "2026-11-30"),
        ("week", "2027-01-01T12:00:00", "2026-12-28", "2027-01-04"),
        ("month", "2024-02-29T12:00:00", "2024-02-01", "2024-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2026-01-31T00:00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_budgets_have_the_calendars_periods(window: Window, now: str, begins: str, ends: str) -> None:
    limit = Limit("key_1", "API key", "usd", window, 1)
    counts: dict[tuple[str, str], Count] = {}
    grant(counts, [Claim(limit, 1)], at(now))
    assert counts[limit.key] == Count(1, at(begins), at(ends))


def test_a_callers_limits_are_its_keys_and_its_projects() -> None:
    caller = make_caller(
        policy=KeyPolicy(limits=Limits(requests_per_minute=5, concurrent_streams=2, max_output_tokens=100)),
        project_policy=ProjectPolicy(
            limits=Limits(
                tokens_per_minute=7,
                max_output_tokens=50,
                budgets=(Budget("day", tokens=9, usd=0.1), Budget("day", tokens=8), Budget("month", usd=2)),
            )
        ),
    )
    assert [(limit.whose, limit.name, limit.most) for limit in limits_of(caller)] == [
        ("API key", "requests_per_minute", 5),
        ("API key", "concurrent_streams", 2),
        ("project", "tokens_per_minute", 7),
        ("project", "tokens_per_day", 8),
        ("project", "usd_per_day", NANO // 10),
        ("project", "usd_per_month", 2 * NANO),
    ]
    assert most_output_tokens(caller) == 50
    assert not caller.is_unrestricted
    assert make_caller().is_unrestricted
    assert most_output_tokens(make_caller()) is None
