"""The pool: which accounts may serve a model now, in which order. Must not know what a fault is, nor do any I/O."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.errors import UpstreamError
from app.settings import UpstreamSettings
from app.upstream.account import Account, accounts_of, serves
from app.wire.wording import unknown_model

_LONGEST_SDK_WAIT_SECONDS = 60
_MODELS_REMEMBERED = 256
_LONGEST_REMEMBERED = 256


class PoolExhaustedError(UpstreamError):
    """Every account that serves the model has to rest."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


def retry_headers(seconds: float) -> dict[str, str]:
    """When to come back, in both spellings the SDKs read. Too long a wait tells them not to."""
    headers = {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, math.ceil(seconds * 1000)))}
    if seconds > _LONGEST_SDK_WAIT_SECONDS:
        headers["x-should-retry"] = "false"
    return headers


@dataclass(slots=True)
class _Seat:
    account: Account
    # The place of its upstream in the file.
    rank: int
    in_flight: int = 0
    # The turn in which it was last leased; the smallest is next among equals.
    last_turn: int = 0
    rests_until: float = -math.inf
    doubted_until: float = -math.inf


class Lease:
    """One call in flight on an account, until it is ended."""

    __slots__ = ("_seat",)

    def __init__(self, seat: _Seat) -> None:
        self._seat: _Seat | None = seat
        seat.in_flight += 1

    def end(self) -> None:
        """The call is over. May be called again."""
        if self._seat is not None:
            self._seat.in_flight -= 1
            self._seat = None


class Pool:
    """The accounts of all upstreams, in file order. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        upstreams: Sequence[UpstreamSettings],
        cool_down_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.upstreams = tuple(upstreams)
        self._cool_down_seconds = cool_down_seconds
        self._clock = clock
        self._turn = 0
        self._seats = {
            account.name: _Seat(account, rank)
            for rank, upstream in enumerate(self.upstreams)
            for account in accounts_of(upstream)
        }
        self._serving = lru_cache(_MODELS_REMEMBERED)(self._find_serving)

    def candidates(self, model: str, prefer: str | None = None, only: str | None = None) -> list[Account]:
        """The accounts to try for this model, in order: never empty.

        `prefer` comes first unless it rests. Then upstreams in file order; within one the least busy, in turn among
        equals. Accounts in doubt come last. Raises InvalidRequestError (no upstream serves the model), UpstreamError
        (the account in `only` is gone) or PoolExhaustedError (all of them rest).
        """
        seats = self._bound(model, only)
        now = self._clock()
        usable = [seat for seat in seats if seat.rests_until <= now]
        if not usable:
            raise PoolExhaustedError(
                "Rate limit reached: every upstream account for this model is resting. Please try again later.",
                headers=retry_headers(self._shortest_rest(seats)),
            )
        if len(usable) == 1:
            return [usable[0].account]

        def order(seat: _Seat) -> tuple[bool, bool, int, int, int]:
            return (
                seat.account.name != prefer,
                seat.doubted_until > now,
                seat.rank,
                seat.in_flight,
                seat.last_turn,
            )

        return [seat.account for seat in sorted(usable, key=order)]

    def lease(self, account: Account) -> Lease:
        """Count one call in flight on this account, until the lease is ended."""
        seat = self._seats[account.name]
        self._turn += 1
        seat.last_turn = self._turn
        return Lease(seat)

    def cool(self, account: Account, seconds: float) -> None:
        """Leave the account out for this long, or until its present rest ends if that is later."""
        seat = self._seats[account.name]
        seat.rests_until = max(seat.rests_until, self._clock() + seconds)

    def doubt(self, account: Account) -> None:
        """Try the account after all others for one cool-down: it failed without saying for how long.

        Leaving it out instead would turn one bad answer of an only account into an outage.
        """
        self._seats[account.name].doubted_until = self._clock() + self._cool_down_seconds

    def trust(self, account: Account) -> None:
        """The account has served: it is in doubt no longer."""
        self._seats[account.name].doubted_until = -math.inf

    def in_flight(self, account: Account) -> int:
        """Calls on this account right now."""
        return self._seats[account.name].in_flight

    def rest(self, account: Account) -> float:
        """Seconds until the account may be used again; 0 when it may be now."""
        return max(0.0, self._seats[account.name].rests_until - self._clock())

    def shortest_rest(self, model: str, only: str | None = None) -> float:
        """Seconds until some account may serve this model; 0 when one may now."""
        return self._shortest_rest(self._bound(model, only))

    def accounts(self) -> list[Account]:
        """All accounts, in file order."""
        return [seat.account for seat in self._seats.values()]

    def _find_serving(self, model: str) -> list[_Seat]:
        seats = [seat for seat in self._seats.values() if serves(seat.account.upstream, model)]
        if not seats:
            raise unknown_model(model)
        return seats

    def _bound(self, model: str, only: str | None) -> list[_Seat]:
        # A name of a client's choosing is remembered while it is short.
        seats = self._serving(model) if len(model) <= _LONGEST_REMEMBERED else self._find_serving(model)
        if only is None:
            return seats
        bound = [seat for seat in seats if seat.account.name == only]
        if not bound:
            raise UpstreamError(
                "The upstream account that holds this response is no longer configured for this model.",
                code="upstream_account_gone",
                headers={"x-should-retry": "false"},
            )
        return bound

    def _shortest_rest(self, seats: Sequence[_Seat]) -> float:
        return min(self.rest(seat.account) for seat in seats)
