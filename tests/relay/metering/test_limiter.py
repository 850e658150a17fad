"""The limiter: what a call is granted, what its end gives back or takes, and what a refused one is told."""

from typing import Any

import pytest
from msgspec.structs import replace

from app.errors import ApiError, InvalidRequestError, StorageError
from app.relay.call.reservation import NOTHING, Grant
from app.relay.metering.limit_answers import BudgetError, LimitError, duration
from app.relay.metering.limiter import Limiter
from app.relay.metering.prices import Prices
from app.runtime.compute_thread import ComputeThread
from app.settings.prices import PriceSettings
from app.state.limit_windows import (
    Key,
)
from app.state.policies import Budget, KeyPolicy, Limits, ProjectPolicy
from app.state.records import ApiKey, TokenUsage
from app.state.usage import UsageEntry
from app.storage.limits.memory_counts import MemoryCounts
from app.storage.limits.split_counts import SplitCounts
from tests.builders import make_caller, make_request
from tests.fakes.kept_budgets import KeptBudgets

NOW = 1_800_000_000_000
USED = TokenUsage(input_tokens=60, output_tokens=40, total_tokens=100)


class NoStore:
    """The database, which is out of reach."""

    async def draw(self, *_: object) -> None:
        raise StorageError("away")

    reconcile = read = draw


class Rig:
    """A limiter of one process, whose time is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        store: Any = NoStore()
        self.counts = MemoryCounts(clock=lambda: self.now)
        self.limiter = Limiter(
            SplitCounts(self.counts, store), Prices([PriceSettings(model="demo", input=1, output=2)]), ComputeThread()
        )

    def used(self) -> dict[Key, int]:
        return {key: count.used for key, count in self.counts._counts.items()}

    async def refusal(self, caller: ApiKey, **fields: Any) -> ApiError:
        with pytest.raises(ApiError) as raised:
            await self.limiter.admit(caller, make_request(**fields), make_entry(**fields))
        return raised.value


@pytest.fixture
def rig() -> Rig:
    return Rig()


def make_entry(**members: Any) -> UsageEntry:
    entry = UsageEntry(0, "req_1", "proj_a", "key_1", "responses", "demo", is_stream=False, is_background=False)
    return replace(entry, is_stream=members.get("stream", False), is_background=members.get("background", False))


def limited(project: Limits | None = None, **limits: Any) -> ApiKey:
    policy = ProjectPolicy(limits=project or Limits())
    return make_caller(policy=KeyPolicy(limits=Limits(**limits)), project_policy=policy)


async def test_a_caller_without_limits_is_not_looked_up(rig: Rig) -> None:
    request = make_request()
    grant = await rig.limiter.admit(make_caller(), request, make_entry())
    assert grant is NOTHING
    assert not rig.used()
    assert "max_output_tokens" not in request.members
    assert await rig.limiter.standings(make_caller()) == []


async def test_requests_are_counted_down_until_they_are_refused(rig: Rig) -> None:
    caller = limited(requests_per_minute=2, project=Limits(requests_per_minute=2))
    heard = [dict((await rig.limiter.admit(caller, make_request(), make_entry())).headers) for _ in range(2)]
    assert heard[0] == {
        b"x-ratelimit-limit-requests": b"2",
        b"x-ratelimit-remaining-requests": b"1",
        b"x-ratelimit-reset-requests": b"1m0s",
    }
    assert heard[1][b"x-ratelimit-remaining-requests"] == b"0"
    rig.now += 55.5
    error = await rig.refusal(caller)
    assert isinstance(error, LimitError)
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.message.startswith(
        "Rate limit reached for this API key on requests per min (RPM): Limit 2, Used 2, Requested 1. "
        "Please try again in 4.5s (at 20"
    )
    assert error.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "4.5s",
        "retry-after": "5",
        "retry-after-ms": "4500",
    }
    rig.now += 4.5
    await rig.limiter.admit(caller, make_request(), make_entry())


async def test_the_tighter_of_two_limits_is_told(rig: Rig) -> None:
    caller = limited(requests_per_minute=10, project=Limits(requests_per_minute=3))
    grant = await rig.limiter.admit(caller, make_request(), make_entry())
    assert dict(grant.headers)[b"x-ratelimit-limit-requests"] == b"3"
    for _ in range(2):
        await rig.limiter.admit(caller, make_request(), make_entry())
    assert "for the project of this API key on requests" in (await rig.refusal(caller)).message
    assert rig.used() == {("key_1", "requests_per_minute"): 3, ("proj_a", "requests_per_minute"): 3}


@pytest.mark.parametrize(
    ("usage", "attempts", "used"),
    [(USED, 1, 100), (None, 2, 29), (None, 0, 0), (TokenUsage(9000, 9000, 18_000), 1, 18_000)],
)
async def test_tokens_are_taken_by_estimate_and_settled_by_usage(
    rig: Rig, usage: TokenUsage | None, attempts: int, used: int
) -> None:
    caller, entry = limited(tokens_per_minute=1000), make_entry()
    grant = await rig.limiter.admit(caller, make_request(input="x" * 100, max_output_tokens=500), entry)
    assert rig.used() == {("key_1", "tokens_per_minute"): 529}
    assert dict(grant.headers)[b"x-ratelimit-remaining-tokens"] == b"471"
    entry.usage, entry.attempts = usage, attempts
    await rig.limiter.reconcile(grant, entry)
    assert rig.used() == {("key_1", "tokens_per_minute"): used}


async def test_a_request_that_can_never_fit_is_told_so(rig: Rig) -> None:
    error = await rig.refusal(limited(tokens_per_minute=100), max_output_tokens=5000)
    assert "Request too large for this API key on tokens per min (TPM): Limit 100, Requested 50" in error.message
    assert error.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.headers


async def test_streams_are_counted_while_they_last(rig: Rig) -> None:
    caller = limited(concurrent_streams=1)
    grant = await rig.limiter.admit(caller, make_request(stream=True), make_entry(stream=True))
    await rig.limiter.admit(caller, make_request(), make_entry())
    await rig.limiter.admit(caller, make_request(), make_entry(background=True))
    await rig.refusal(caller, stream=True, background=True)
    with pytest.raises(LimitError):
        await rig.limiter.listen(caller)
    error = await rig.refusal(caller, stream=True)
    assert "on concurrent streams: Limit 1, Used 1" in error.message
    await rig.limiter.reconcile(grant, make_entry())
    await rig.limiter.admit(caller, make_request(stream=True), make_entry(stream=True))


async def test_a_request_without_a_cap_gets_its_callers(rig: Rig) -> None:
    caller = limited(max_output_tokens=64, project=Limits(max_output_tokens=100))
    request = make_request()
    await rig.limiter.admit(caller, request, make_entry())
    assert (bytes(request.members["max_output_tokens"]), request.fields["max_output_tokens"]) == (b"64", 64)
    request = make_request(max_output_tokens=32)
    await rig.limiter.admit(caller, request, make_entry())
    assert request.fields["max_output_tokens"] == 32
    error = await rig.refusal(caller, max_output_tokens=65)
    assert isinstance(error, InvalidRequestError)
    assert (error.code, error.param) == ("integer_above_max_value", "max_output_tokens")
    assert error.message == (
        "Invalid 'max_output_tokens': integer above maximum value. Expected a value <= 64, but got 65 instead."
    )


async def test_counting_tokens_caps_nothing_and_spends_none(rig: Rig) -> None:
    caller, request = limited(max_output_tokens=64, tokens_per_minute=10), make_request(input="x" * 4000)
    entry = replace(make_entry(), endpoint="input_tokens", attempts=1)
    await rig.limiter.reconcile(await rig.limiter.admit(caller, request, entry), entry)
    assert "max_output_tokens" not in request.members
    assert rig.used() == {("key_1", "tokens_per_minute"): 0}


async def test_who_has_limits_is_not_served_while_their_counts_are_out_of_reach(rig: Rig) -> None:
    error = await rig.refusal(limited(requests_per_minute=5, budgets=(Budget("day", tokens=100),)))
    assert error.status == 503
    assert rig.used() == {("key_1", "requests_per_minute"): 0}


async def test_a_listener_is_a_stream_and_nothing_else(rig: Rig) -> None:
    caller = limited(concurrent_streams=1, requests_per_minute=1, tokens_per_minute=1)
    assert await rig.limiter.listen(make_caller()) is NOTHING
    for _ in range(3):
        grant = await rig.limiter.listen(caller)
        assert rig.used() == {("key_1", "concurrent_streams"): 1}
        await rig.limiter.end_stream(grant)
    assert rig.used() == {("key_1", "concurrent_streams"): 0}


async def test_an_order_is_made_with_what_it_was_granted(rig: Rig) -> None:
    caller = limited(tokens_per_minute=1000, max_output_tokens=700, concurrent_streams=1)
    entry = make_entry(background=True, stream=True)
    ordered = await rig.limiter.admit(caller, make_request(input="x" * 100, max_output_tokens=500), entry)
    await rig.limiter.end_stream(ordered)
    assert rig.used() == {("key_1", "tokens_per_minute"): 529, ("key_1", "concurrent_streams"): 0}
    # The client has capped its other calls since; this one was ordered without.
    again, kept = make_request(input="x" * 100), Grant.of_run(ordered.drawn)
    entry.usage, entry.attempts = USED, 1
    await rig.limiter.reconcile(rig.limiter.resume(kept, caller, again), entry)
    assert again.fields["max_output_tokens"] == 700
    assert rig.used() == {("key_1", "tokens_per_minute"): 100, ("key_1", "concurrent_streams"): 0}


async def test_an_order_that_is_made_in_a_later_window_counts_there_beyond_what_it_was_granted(rig: Rig) -> None:
    caller, entry = limited(tokens_per_minute=1000), make_entry(background=True)
    ordered = await rig.limiter.admit(caller, make_request(input="x" * 100), entry)
    rig.now += 61
    entry.usage, entry.attempts = USED, 1
    await rig.limiter.reconcile(Grant.of_run(ordered.drawn), entry)
    assert rig.used() == {("key_1", "tokens_per_minute"): 100 - 29}


async def test_a_limit_that_is_newer_than_an_order_is_given_nothing_and_counts_what_is_used() -> None:
    counts = KeptBudgets(NOW)
    limiter, entry = Limiter(counts, Prices(()), ComputeThread()), make_entry(background=True)
    ordered = await limiter.admit(make_caller(), make_request(max_output_tokens=5000), entry)
    assert ordered.drawn is None
    caller = limited(budgets=(Budget("day", tokens=60),))
    await limiter.admit(caller, make_request(input="x" * 100), entry)
    entry.usage, entry.attempts = TokenUsage(10, 2, 12), 1
    await limiter.reconcile(limiter.resume(Grant.of_run(None), caller, make_request()), entry)
    assert counts.used == {"tokens_per_day": 29 + 12}


async def test_what_was_taken_of_a_limit_that_is_gone_is_given_back_to_it() -> None:
    counts = KeptBudgets(NOW)
    limiter, entry = Limiter(counts, Prices(()), ComputeThread()), make_entry(background=True)
    caller = limited(budgets=(Budget("day", tokens=6000),))
    ordered = await limiter.admit(caller, make_request(input="x" * 100, max_output_tokens=5000), entry)
    entry.usage, entry.attempts = USED, 1
    await limiter.reconcile(limiter.resume(Grant.of_run(ordered.drawn), make_caller(), make_request()), entry)
    assert counts.used == {"tokens_per_day": 100}


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0ms"), (12, "12ms"), (1000, "1s"), (59_900, "59.9s"), (360_000, "6m0s"), (3_723_004, "1h2m3.004s")],
)
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


async def test_a_budget_that_is_spent_refuses_without_a_retry() -> None:
    counts = KeptBudgets(NOW)
    limiter = Limiter(counts, Prices([PriceSettings(model="demo", input=1, output=2)]), ComputeThread())
    caller, entry = limited(budgets=(Budget("day", usd=0.0002), Budget("month", tokens=500))), make_entry()
    grant = await limiter.admit(caller, make_request(input="x" * 100), entry)
    # 29 tokens at a dollar a million.
    assert counts.used == {"usd_per_day": 29_000, "tokens_per_month": 29}
    assert grant.headers == ()
    entry.usage, entry.attempts, entry.model_served = TokenUsage(100, 50, 150), 1, "demo"
    await limiter.reconcile(grant, entry)
    assert counts.used == {"usd_per_day": 200_000, "tokens_per_month": 150}
    with pytest.raises(BudgetError) as raised:
        await limiter.admit(caller, make_request(), make_entry())
    error = raised.value
    assert (error.status, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    assert error.message.startswith(
        "You exceeded your current quota, the budget of this API key for this day: "
        "Limit $0.0002, Used $0.0002, Requested $0.00000"
    )
    assert error.headers["x-should-retry"] == "false"
    shown = {one.name: one for one in await limiter.standings(caller)}
    assert (shown["usd_per_day"].limit, shown["usd_per_day"].used) == (0.0002, 0.0002)
    assert shown["tokens_per_month"].resets_at is not None


async def test_tokens_that_upstream_does_not_add_up_are_added_up_here(rig: Rig) -> None:
    caller, entry = limited(tokens_per_minute=1000), make_entry()
    grant = await rig.limiter.admit(caller, make_request(), entry)
    entry.usage, entry.attempts = TokenUsage(60, 40, 0), 1
    await rig.limiter.reconcile(grant, entry)
    assert rig.used() == {("key_1", "tokens_per_minute"): 100}
