"""Which account is next for a call, among those that may serve its model. Must not know why the others may not."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import random

from app.upstream.seat import Rank, Seat

# A choice is looked over after this time at the latest: what upstream says is left of its limits goes out of date.
_LONGEST_SECONDS = 1.0
_WORD = (1 << 64) - 1
# An odd number without a pattern: a product with it depends in its upper bits on all bits of the factor.
_MIX = 0x9E3779B97F4A7C15


@dataclass(slots=True, kw_only=True)
class Wish:
    """What a call wants of the pool. `prefer` and `only` name accounts; `cache_key` is its prompt_cache_key."""

    model: str
    prefer: str | None = None
    only: str | None = None
    cache_key: str | None = None
    project_id: str = ""


@dataclass(slots=True)
class Choice:
    """The accounts for one model until a time, the best first: tiers of equals, and those that one call is to probe.

    `idle` is the smallest load that one can have.
    """

    until: float
    idle: float
    tiers: tuple[tuple[Seat, ...], ...]
    probes: tuple[Seat, ...]

    def least_loaded(self, tried: Collection[str]) -> Seat | None:
        """The least loaded account of the best tier that has one that was not tried, any among equals."""
        seats = self._best(tried) if tried or not self.tiers else self.tiers[0]
        if len(seats) <= 1:
            return seats[0] if seats else None
        start = int(random() * len(seats))  # noqa: S311 - it spreads load
        best = seats[start]
        # Of a hundred keys most are idle, and the first of those ends the search.
        for place in range(start + 1 - len(seats), start + 1):
            if best.load <= self.idle:
                break
            if seats[place].load < best.load:
                best = seats[place]
        return best

    def home(self, cache_key: str, tried: Collection[str]) -> Seat | None:
        """The account at which this prompt cache is at home: when one is lost, the others keep theirs."""
        mark = int.from_bytes(hashlib.blake2b(cache_key.encode(errors="replace"), digest_size=8).digest())
        return max(self._best(tried), key=lambda seat: ((mark ^ seat.salt) * _MIX) & _WORD, default=None)

    def find(self, name: str | None) -> Seat | None:
        """The account of this name, if it may be used and is not the last resort only."""
        return next((seat for tier in self.tiers for seat in tier if seat.account.name == name), None)

    def _best(self, tried: Collection[str]) -> tuple[Seat, ...]:
        for tier in self.tiers:
            seats = tuple([seat for seat in tier if seat.account.name not in tried]) if tried else tier
            if seats:
                return seats
        return ()


def salt_of(name: str) -> int:
    """What tells an account of this name from others where homes are given out."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def choose(seats: Iterable[Seat], model: str, now: float) -> Choice:
    """The choice among these seats, which all serve the model."""
    until = now + _LONGEST_SECONDS
    ranked: list[tuple[Rank, int, Seat]] = []
    for seat in seats:
        seat.refresh(now)
        rank, changes = seat.rank(model, now)
        until = min(until, changes)
        if rank is not Rank.OUT and seat.control == "enabled":
            ranked.append((rank, seat.account.tier, seat))
    ranked.sort(key=lambda entry: entry[:2])
    tiers: list[tuple[Seat, ...]] = []
    for (rank, _), group in groupby((entry for entry in ranked if entry[0] is not Rank.PROBE), lambda entry: entry[:2]):
        if rank is not Rank.LAST or not tiers:
            tiers.append(_seats(tuple(group)))
    idle = min([seat.share for _, _, seat in ranked], default=0.0)
    return Choice(until, idle, tuple(tiers), _seats([entry for entry in ranked if entry[0] is Rank.PROBE]))


def _seats(entries: Sequence[tuple[Rank, int, Seat]]) -> tuple[Seat, ...]:
    return tuple([seat for _, _, seat in entries])
