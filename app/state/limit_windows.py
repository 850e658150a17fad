"""Count limits in windows, and grant or refuse a call by them. Pure.

Requests and tokens per minute are counted in windows of 60 s, which begin with the first call in them. Budgets have
calendar periods in UTC. Streams are counted while they last. Usage counts when it is known. Times are unix
milliseconds, by whatever clock counts.
"""

from collections.abc import Collection, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol, TypeAlias

from app.state.policies import Limits
from app.state.records import ApiKey

Whose: TypeAlias = Literal["API key", "project"]
Unit: TypeAlias = Literal["requests", "tokens", "usd", "streams"]
Window: TypeAlias = Literal["minute", "day", "week", "month"]
Key: TypeAlias = tuple[str, str]

NANO = 1_000_000_000
"""Money is counted in billionths of a dollar."""

MINUTE_MS = 60_000
"""How long the window of a limit per minute lasts."""

FOREVER = 1 << 53
"""The end of the window of streams, which have none."""

NEVER = -1
"""A time in no window."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Allow at most so much in each window, for all calls of one owner (the id of a key or of a project).

    `most` is in requests, tokens, nano-dollars or streams. Streams have no window.
    """

    owner: str
    whose: Whose
    unit: Unit
    window: Window | None
    most: int

    @property
    def name(self) -> str:
        """Return the limit's name: `requests_per_minute`, `usd_per_month`, `concurrent_streams`."""
        return "concurrent_streams" if self.window is None else f"{self.unit}_per_{self.window}"

    @property
    def key(self) -> Key:
        """Return the key of its count."""
        return self.owner, self.name

    @property
    def is_budget(self) -> bool:
        """Tell whether the limit is spent in a period of the calendar."""
        return self.window not in (None, "minute")


class Count(NamedTuple):
    """Count what was used from `began_at` on, until the window ends at `ends_at`."""

    used: int
    began_at: int
    ends_at: int


class Claim(NamedTuple):
    """Claim an amount of a limit for a call, in the limit's unit."""

    limit: Limit
    amount: int


class Correction(NamedTuple):
    """Correct a limit by the difference between what a call used and what was reserved in the window of this time.

    Where nothing was reserved, because the limit is newer than the call, the time is `NEVER`.
    """

    limit: Limit
    amount: int
    at: int


class Standing(NamedTuple):
    """Report how much of a limit is used since `began_at`, and what is left of its window."""

    limit: Limit
    used: int
    began_at: int
    rest_ms: int


class Verdict(NamedTuple):
    """Grant a call, with the standings of its limits after that; or refuse it by the limit `refused`.

    Of several refusing limits `refused` is the one that refuses for longest.
    """

    standings: tuple[Standing, ...]
    refused: Standing | None = None


class Counts(Protocol):
    """Count usage against limits. Failures raise StorageError."""

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        """Grant all of these claims or none; that of a stream under the id of the stream."""

    async def reconcile(self, corrections: Sequence[Correction], stream: str) -> None:
        """Correct the counts of a call by its usage, and end this stream."""

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """Return how these limits stand."""


def limits_of(caller: ApiKey) -> tuple[Limit, ...]:
    """List the limits of a key and of its project that are counted, so without `max_output_tokens`."""
    own, projects = caller.policy.limits, caller.project_policy.limits
    return (*_counted(caller.id, "API key", own), *_counted(caller.project_id, "project", projects))


def most_output_tokens(caller: ApiKey) -> int | None:
    """Return the most output tokens that one response to this caller may have."""
    caps = (caller.policy.limits.max_output_tokens, caller.project_policy.limits.max_output_tokens)
    return min([cap for cap in caps if cap is not None], default=None)


def grant(counts: MutableMapping[Key, Count], claims: Sequence[Claim], now: int) -> Verdict:
    """Add all of these claims to the counts, or none of them.

    Where a limit is used up nothing is granted, also to a call of unknown price or length.
    """
    found = [current(counts.get(limit.key), limit, now) for limit, _ in claims]
    refused = [
        standing(limit, count, now)
        for (limit, amount), count in zip(claims, found, strict=True)
        if count.used + max(amount, 1) > limit.most
    ]
    if refused:
        # After a clock was set back, a window begins anew here too, or it would refuse until the clock catches up.
        counts.update({claim.limit.key: count for claim, count in zip(claims, found, strict=True) if count.used})
        standings = tuple([standing(claim.limit, count, now) for claim, count in zip(claims, found, strict=True)])
        return Verdict(standings, max(refused, key=lambda one: (one.limit.is_budget, one.rest_ms)))
    granted = []
    for (limit, amount), count in zip(claims, found, strict=True):
        taken = counts[limit.key] = count._replace(used=count.used + amount)
        granted.append(standing(limit, taken, now))
    return Verdict(tuple(granted))


def correct(counts: MutableMapping[Key, Count], corrections: Sequence[Correction], now: int) -> None:
    """Correct the counts in the windows of now.

    Where the window of the reservation is over, usage beyond it counts in the present one. What was left of it is given
    back to none: it was never taken from another.
    """
    for limit, amount, at in corrections:
        count = current(counts.get(limit.key), limit, now)
        if amount > 0 or count.began_at <= at < count.ends_at:
            counts[limit.key] = count._replace(used=max(0, count.used + amount))


def current(count: Count | None, limit: Limit, now: int) -> Count:
    """Return the count while its window lasts, else that of a new window.

    Where the clock was set back, the new window begins with what was used: nothing is granted twice.
    """
    if count is None or now >= count.ends_at:
        return Count(0, *_window(limit.window, now))
    return count if count.began_at <= now else Count(count.used, *_window(limit.window, now))


def standing(limit: Limit, count: Count, now: int) -> Standing:
    """Return how the limit stands by this count."""
    return Standing(limit, count.used, count.began_at, 0 if limit.window is None else count.ends_at - now)


def _counted(owner: str, whose: Whose, limits: Limits) -> Iterator[Limit]:
    if limits.requests_per_minute is not None:
        yield Limit(owner, whose, "requests", "minute", limits.requests_per_minute)
    if limits.tokens_per_minute is not None:
        yield Limit(owner, whose, "tokens", "minute", limits.tokens_per_minute)
    if limits.concurrent_streams is not None:
        yield Limit(owner, whose, "streams", None, limits.concurrent_streams)
    budgets: dict[tuple[Unit, Window], int] = {}
    for budget in limits.budgets:
        usd = None if budget.usd is None else round(budget.usd * NANO)
        for unit, most in (("tokens", budget.tokens), ("usd", usd)):
            if most is not None:
                # Of two budgets for the same period the smaller holds.
                key: tuple[Unit, Window] = ("usd" if unit == "usd" else "tokens", budget.period)
                budgets[key] = min(most, budgets.get(key, most))
    for (unit, period), most in budgets.items():
        yield Limit(owner, whose, unit, period, most)


def _window(window: Window | None, now: int) -> tuple[int, int]:
    if window is None:
        return 0, FOREVER
    if window == "minute":
        return now, now + MINUTE_MS
    today = datetime.fromtimestamp(now // 1000, UTC).replace(hour=0, minute=0, second=0)
    if window == "day":
        begins, ends = today, today + timedelta(days=1)
    elif window == "week":
        begins = today - timedelta(days=today.weekday())
        ends = begins + timedelta(days=7)
    else:
        begins = today.replace(day=1)
        # 32 days later is a day of the next month, whichever this is.
        ends = (begins + timedelta(days=32)).replace(day=1)
    return int(begins.timestamp()) * 1000, int(ends.timestamp()) * 1000
