"""Keep one account of the pool: its load, its caps, its health, and whether it may be used for a model."""

import enum
import math
from collections.abc import Mapping

from app.state.account_conditions import AccountState, Control
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.pool.caps import Caps
from app.upstream.pool.cooldown import AccountHealth, Cooldown

_QUOTA_SECONDS = 60.0
_LEAST_QUOTA = 0.05
_REQUESTS = (b"x-ratelimit-remaining-requests", b"x-ratelimit-limit-requests")
_TOKENS = (b"x-ratelimit-remaining-tokens", b"x-ratelimit-limit-tokens")
_MOST_DIGITS = 15


class Usability(enum.IntEnum):
    """Rank how usable an account is, the best first."""

    PROBE = 0  # by one call, which tests its health
    USABLE = 1
    SUSPECT = 2  # after all usable ones
    LAST = 3  # where there is no other
    OUT = 4


class PoolMember:
    """Track the load, caps and health of an account in the pool. Times are monotonic seconds.

    The smallest `load` is next: the calls in flight and one more, each of which weighs `share`.
    """

    __slots__ = (
        "_quota",
        "_quota_until",
        "account",
        "caps",
        "control",
        "health",
        "in_flight",
        "load",
        "remaining",
        "salt",
        "share",
    )

    def __init__(self, account: Account, salt: int) -> None:
        self.control: Control = "enabled"
        self.health = AccountHealth()
        self.in_flight = 0
        self.remaining: tuple[int | None, int | None] = (None, None)
        self.salt = salt
        self._quota = 1.0
        self._quota_until = -math.inf
        self.caps: Caps | None = None
        self.load = self.share = 0.0
        self.configure(account)

    def configure(self, account: Account) -> None:
        """Replace the account's settings; its calls in flight and its health stay."""
        self.account = account
        key = account.key
        is_capped = key is not None and (key.requests_per_minute or key.tokens_per_minute or key.concurrency)
        self.caps = Caps(key) if key is not None and is_capped else None
        self.weigh()

    @property
    def weight(self) -> float:
        """Return the share of the calls that the operator wants the account to have."""
        return 1.0 if self.account.key is None else self.account.key.weight

    @property
    def group(self) -> str | None:
        """Return the name of the quota group that shares one limit; None for none."""
        return None if self.account.key is None else self.account.key.quota_group

    def weigh(self) -> None:
        """Compute the load anew."""
        self.share = 1.0 / (self.weight * self._quota)
        self.load = (self.in_flight + 1) * self.share

    def note_rate_limit_headers(self, headers: Mapping[bytes, bytes], now: float) -> None:
        """Read from an answer's headers what is left of upstream's limits, and weigh the account by it."""
        if _REQUESTS[0] not in headers and _TOKENS[0] not in headers:
            return
        seen = [
            (_count(headers.get(remaining)), _count(headers.get(limit))) for remaining, limit in (_REQUESTS, _TOKENS)
        ]
        fractions = [left / most for left, most in seen if left is not None and most]
        if fractions:
            self.remaining = (seen[0][0], seen[1][0])
            self._quota = max(_LEAST_QUOTA, min(1.0, *fractions))
            self._quota_until = now + _QUOTA_SECONDS
            self.weigh()

    def is_full_by_one_more(self, now: float) -> bool:
        """Count a call that begins against the caps; return whether no other may begin now."""
        if self.caps is None:
            return False
        self.caps.began(now)
        return self.caps.free_at(self.in_flight) > now

    def is_freed_by_one_less(self, entry: UsageEntry | None, now: float) -> bool:
        """Count the tokens of a call that ended; return whether that changes if another may begin."""
        if self.caps is None:
            return False
        was_free = self.caps.free_at(self.in_flight + 1) <= now
        if entry is not None and entry.usage is not None:
            self.caps.spent(entry.usage.total_tokens, now)
        return was_free != (self.caps.free_at(self.in_flight) <= now)

    def refresh(self, now: float) -> None:
        """Forget limits that were seen long ago, and cooldowns that are over."""
        if self._quota < 1.0 and self._quota_until <= now:
            self._quota = 1.0
            self.weigh()
        health = self.health
        if health.timed_cooldown is not None and health.timed_cooldown.is_over(now):
            health.timed_cooldown = None
        if health.suspect_until <= now:
            health.suspect_until = -math.inf

    def cooldown(self, model: str, now: float) -> Cooldown | None:
        """Return the worst cooldown that keeps the account from being used for this model."""
        health = self.health
        if health.probed_cooldown is not None:
            return health.probed_cooldown
        if health.timed_cooldown is not None and not health.timed_cooldown.is_over(now):
            return health.timed_cooldown
        of_model = self.health.models.get(model)
        return None if of_model is None or of_model.is_over(now) else of_model

    def usability(self, model: str, now: float) -> tuple[Usability, float]:
        """Return how usable the account is for this model, and when that may change."""
        if self.control == "disabled":
            return Usability.OUT, math.inf
        if self.caps is not None and (free_at := self.caps.free_at(self.in_flight)) > now:
            return Usability.OUT, free_at
        cooling = self.health.timed_cooldown
        if cooling is not None and cooling.until > now:
            return Usability.OUT, cooling.until
        cooldown = self.cooldown(model, now)
        if cooldown is None:
            suspect_until = self.health.suspect_until
            return (Usability.SUSPECT, suspect_until) if suspect_until > now else (Usability.USABLE, math.inf)
        if cooldown.until <= now and cooldown.is_granted and not cooldown.is_probed:
            return Usability.PROBE, math.inf
        cooldown.is_wanted = True
        usability = Usability.LAST if cooldown.state == "open" else Usability.OUT
        return usability, cooldown.until if cooldown.until > now else math.inf

    def rest(self, now: float) -> float:
        """Return seconds until the account may be used, or probed, for any model; 0 when it may be now."""
        known = (self.health.probed_cooldown, self.health.timed_cooldown)
        return max(
            (cooldown.until - now for cooldown in known if cooldown is not None and cooldown.until > now), default=0.0
        )

    def report(self, now: float) -> AccountState:
        """Describe the account for administrators."""
        account, health = self.account, self.health
        cooling = None if health.timed_cooldown is None or health.timed_cooldown.is_over(now) else health.timed_cooldown
        cooldown = health.probed_cooldown or cooling
        models = health.models.items()
        return AccountState(
            name=account.name,
            upstream=account.upstream.name,
            key_name=None if account.key is None else account.key.name,
            tier=account.tier,
            weight=self.weight,
            state=self.control if self.control != "enabled" else "usable" if cooldown is None else cooldown.state,
            conditions=tuple(
                one.as_condition(account.name, model, now) for model, one in models if not one.is_over(now)
            ),
            rest=self.rest(now),
            reason=None if cooldown is None else cooldown.reason,
            in_flight=self.in_flight,
            remaining_requests=self.remaining[0],
            remaining_tokens=self.remaining[1],
        )


def _count(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) <= _MOST_DIGITS else None
