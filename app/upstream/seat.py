"""One account's place in the pool: how busy it is and whether it may be used. Must not know the other accounts."""

import enum
import math
from collections.abc import Mapping

from app.state.health import AccountState, Control
from app.state.ledger import Entry
from app.upstream.account import Account
from app.upstream.caps import Caps
from app.upstream.health import Health, Illness

_QUOTA_SECONDS = 60.0
_LEAST_QUOTA = 0.05
_REQUESTS = (b"x-ratelimit-remaining-requests", b"x-ratelimit-limit-requests")
_TOKENS = (b"x-ratelimit-remaining-tokens", b"x-ratelimit-limit-tokens")
_MOST_DIGITS = 15


class Rank(enum.IntEnum):
    """Whether an account may be used, the best first."""

    PROBE = 0  # by one call, which finds out
    USABLE = 1
    DOUBTED = 2  # after all that are not
    LAST = 3  # where there is no other
    OUT = 4


class Seat:
    """An account in the pool. Times are monotonic seconds.

    `load` is what is compared, the smallest is next: its calls and one more, each of which weighs `share`.
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
        self.health = Health()
        self.in_flight = 0
        self.remaining: tuple[int | None, int | None] = (None, None)
        self.salt = salt
        self._quota = 1.0
        self._quota_until = -math.inf
        self.caps: Caps | None = None
        self.load = self.share = 0.0
        self.seat(account)

    def seat(self, account: Account) -> None:
        """The account is configured like this from now on; its calls in flight and its health stay."""
        self.account = account
        key = account.key
        is_capped = key is not None and (key.requests_per_minute or key.tokens_per_minute or key.concurrency)
        self.caps = Caps(key) if key is not None and is_capped else None
        self.weigh()

    @property
    def weight(self) -> float:
        """The share of the calls that its operator wants it to have."""
        return 1.0 if self.account.key is None else self.account.key.weight

    @property
    def group(self) -> str | None:
        """The name of the limit that it shares with others."""
        return None if self.account.key is None else self.account.key.quota_group

    def weigh(self) -> None:
        """Compute its load anew."""
        self.share = 1.0 / (self.weight * self._quota)
        self.load = (self.in_flight + 1) * self.share

    def observe(self, told: Mapping[bytes, bytes], now: float) -> None:
        """Take note of what an answer's headers say is left of upstream's limits."""
        if _REQUESTS[0] not in told and _TOKENS[0] not in told:
            return
        seen = [(_count(told.get(remaining)), _count(told.get(limit))) for remaining, limit in (_REQUESTS, _TOKENS)]
        fractions = [left / most for left, most in seen if left is not None and most]
        if fractions:
            self.remaining = (seen[0][0], seen[1][0])
            self._quota = max(_LEAST_QUOTA, min(1.0, *fractions))
            self._quota_until = now + _QUOTA_SECONDS
            self.weigh()

    def is_full_by_one_more(self, now: float) -> bool:
        """Count a call that begins against the caps; whether no other may begin now."""
        if self.caps is None:
            return False
        self.caps.began(now)
        return self.caps.free_at(self.in_flight) > now

    def is_freed_by_one_less(self, entry: Entry | None, now: float) -> bool:
        """Count the tokens of a call that has ended against the caps; whether that changes if another may begin."""
        if self.caps is None:
            return False
        was_free = self.caps.free_at(self.in_flight + 1) <= now
        if entry is not None and entry.usage is not None:
            self.caps.spent(entry.usage.total_tokens, now)
        return was_free != (self.caps.free_at(self.in_flight) <= now)

    def refresh(self, now: float) -> None:
        """Forget what is not so any more: a limit that was seen long ago, an illness that is over."""
        if self._quota < 1.0 and self._quota_until <= now:
            self._quota = 1.0
            self.weigh()
        health = self.health
        if health.cooling is not None and health.cooling.is_over(now):
            health.cooling = None
        if health.doubted_until <= now:
            health.doubted_until = -math.inf

    def illness(self, model: str, now: float) -> Illness | None:
        """What keeps it from being used for this model, the worst of it."""
        health = self.health
        if health.illness is not None:
            return health.illness
        if health.cooling is not None and not health.cooling.is_over(now):
            return health.cooling
        of_model = self.health.models.get(model)
        return None if of_model is None or of_model.is_over(now) else of_model

    def rank(self, model: str, now: float) -> tuple[Rank, float]:
        """Whether it may be used for this model, and when that may change."""
        if self.control == "disabled":
            return Rank.OUT, math.inf
        if self.caps is not None and (free_at := self.caps.free_at(self.in_flight)) > now:
            return Rank.OUT, free_at
        cooling = self.health.cooling
        if cooling is not None and cooling.until > now:
            return Rank.OUT, cooling.until
        illness = self.illness(model, now)
        if illness is None:
            doubted_until = self.health.doubted_until
            return (Rank.DOUBTED, doubted_until) if doubted_until > now else (Rank.USABLE, math.inf)
        if illness.until <= now and illness.is_granted and not illness.is_probed:
            return Rank.PROBE, math.inf
        illness.is_wanted = True
        rank = Rank.LAST if illness.state == "open" else Rank.OUT
        return rank, illness.until if illness.until > now else math.inf

    def rest(self, now: float) -> float:
        """Seconds until it may be used, or probed, for any model; 0 when it may be now."""
        known = (self.health.illness, self.health.cooling)
        return max(
            (illness.until - now for illness in known if illness is not None and illness.until > now), default=0.0
        )

    def report(self, now: float) -> AccountState:
        """It as administrators see it."""
        account, health = self.account, self.health
        cooling = None if health.cooling is None or health.cooling.is_over(now) else health.cooling
        illness = health.illness or cooling
        models = health.models.items()
        return AccountState(
            name=account.name,
            upstream=account.upstream.name,
            key_name=None if account.key is None else account.key.name,
            tier=account.tier,
            weight=self.weight,
            state=self.control if self.control != "enabled" else "usable" if illness is None else illness.state,
            conditions=tuple(ill.told(account.name, model, now) for model, ill in models if not ill.is_over(now)),
            rest=self.rest(now),
            reason=None if illness is None else illness.reason,
            in_flight=self.in_flight,
            remaining_requests=self.remaining[0],
            remaining_tokens=self.remaining[1],
        )


def _count(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) <= _MOST_DIGITS else None
