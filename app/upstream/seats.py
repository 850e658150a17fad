"""The seats of all accounts: which serve a model, which is next, and when one is back. Must not know why one is out."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from app.errors import ApiError
from app.settings_upstream import UpstreamSettings
from app.upstream import exhausted
from app.upstream.account import Account, serves
from app.upstream.choice import Choice, Wish, choose, salt_of
from app.upstream.health import Illness
from app.upstream.seat import Rank, Seat
from app.wire.wording import unknown_model

_T = TypeVar("_T")
_MODELS_REMEMBERED = 256
# A name of a client's choosing is remembered while it is short.
_LONGEST_REMEMBERED = 256
# Nobody knows how long another's call or probe goes on.
_SOON_SECONDS = 1.0


class Seats:
    """They are in the order of their accounts. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}
        self._serving: dict[str, Sequence[Seat]] = {}
        self._choices: dict[str, Choice] = {}

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats.values())

    def get(self, account: str) -> Seat | None:
        """The seat of the account of this name."""
        return self._seats.get(account)

    def upstreams(self) -> tuple[UpstreamSettings, ...]:
        """The upstreams that have seats, in their order."""
        return tuple({seat.account.upstream.name: seat.account.upstream for seat in self}.values())

    def configure(self, accounts: Iterable[Account]) -> None:
        """Have seats for these accounts; those that are here already stay as they are."""
        seats: dict[str, Seat] = {}
        for account in accounts:
            seat = self._seats.get(account.name)
            if seat is None:
                seat = Seat(account, salt_of(account.name))
            elif seat.account != account:
                seat.seat(account)
            seats[account.name] = seat
        self._seats = seats
        self._serving.clear()
        self._choices.clear()

    def changed(self) -> None:
        """Something about a seat is not as it was."""
        self._choices.clear()

    def serving(self, wish: Wish) -> Sequence[Seat]:
        """Those that could serve this. Raises InvalidRequestError where there is none, UpstreamError for one gone."""
        seats = self._serving.get(wish.model)
        if seats is None:
            seats = [seat for seat in self if serves(seat.account.upstream, wish.model)]
            if not seats:
                raise unknown_model(wish.model)
            _remember(self._serving, wish.model, seats)
        if wish.only is None:
            return seats
        bound = [seat for seat in seats if seat.account.name == wish.only]
        if not bound:
            raise exhausted.account_gone()
        return bound

    def next(self, wish: Wish, tried: Collection[str], now: float) -> tuple[Seat | None, str | None]:
        """The next to try, if there is one, and the name of the one that is wished for. Raises as `serving` does."""
        choice = self._choices.get(wish.model)
        if choice is None or choice.until <= now:
            choice = choose(self.serving(Wish(model=wish.model)), wish.model, now)
            _remember(self._choices, wish.model, choice)
        if wish.only is not None:
            seat = self.serving(wish)[0]
            rank, _ = seat.rank(wish.model, now)
            return (None if rank is Rank.OUT or wish.only in tried else seat), wish.only
        if wish.prefer is not None:
            preferred = choice.find(wish.prefer)
            if preferred is not None and wish.prefer not in tried:
                return preferred, wish.prefer
        for seat in choice.probes:
            if seat.account.name not in tried:
                return seat, wish.prefer
        if wish.cache_key is not None and wish.prefer is None:
            home = choice.home(wish.cache_key, tried)
            return home, None if home is None else home.account.name
        return choice.least_loaded(tried), wish.prefer

    def soonest(self, wish: Wish, now: float) -> float:
        """Seconds until one that is limited or busy may serve this; infinity when there is none."""
        return min((self._free_at(seat, wish, now) - now for seat in self.serving(wish)), default=math.inf)

    def exhausted(self, wish: Wish, now: float) -> ApiError:
        """What a call is told for which there is none now: when to come back, to the truth."""
        soonest = self.soonest(wish, now)
        if soonest < math.inf:
            return exhausted.resting(soonest)
        ill = [seat.illness(wish.model, now) for seat in self.serving(wish) if _is_open(seat, wish)]
        dead = [illness.until for illness in ill if illness is not None and illness.state == "dead"]
        if dead:
            return exhausted.refused_keys(max(_SOON_SECONDS, min(dead) - now))
        return unknown_model(wish.model) if ill else exhausted.switched_off()

    def verdict(self, wish: Wish, now: float) -> ApiError | None:
        """Why nobody will serve this, however long it waits; None when somebody may."""
        try:
            return None if self.soonest(wish, now) < math.inf else self.exhausted(wish, now)
        except ApiError as error:
            return error

    def sharing(self, seat: Seat) -> Sequence[Seat]:
        """It, and those that share its limit."""
        if seat.group is None:
            return (seat,)
        return (seat, *(other for other in self if other is not seat and other.group == seat.group))

    def beside(self, seat: Seat) -> Sequence[Seat]:
        """Those of the same upstream, with it."""
        return [other for other in self if other.account.upstream.name == seat.account.upstream.name]

    def _free_at(self, seat: Seat, wish: Wish, now: float) -> float:
        illness = seat.illness(wish.model, now)
        if not _is_open(seat, wish) or (illness is not None and illness.state in {"dead", "removed"}):
            return math.inf
        at = now if illness is None else max(_end(illness, now), now + seat.rest(now))
        if seat.caps is None:
            return at
        free_at = seat.caps.free_at(seat.in_flight)
        return max(at, now + _SOON_SECONDS if free_at == math.inf else free_at)


def _end(illness: Illness, now: float) -> float:
    return illness.until if illness.until > now else now + _SOON_SECONDS


def _is_open(seat: Seat, wish: Wish) -> bool:
    return seat.control == "enabled" or (seat.control == "draining" and wish.only is not None)


def _remember(known: dict[str, _T], model: str, value: _T) -> None:
    if len(model) <= _LONGEST_REMEMBERED:
        if len(known) >= _MODELS_REMEMBERED:
            known.clear()
        known[model] = value
