"""Select the account for a call among those that may serve its model: preferred, to be probed, or least loaded."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import random

from app.settings.upstreams import SURFACES, Surface
from app.upstream.pool.member import PoolMember, Usability

# Candidates are computed anew after this time at the latest: what is left of upstream's limits goes out of date.
_LONGEST_SECONDS = 1.0
_WORD = (1 << 64) - 1
# An odd number without a pattern: a product with it depends in its upper bits on all bits of the factor.
_MIX = 0x9E3779B97F4A7C15


@dataclass(slots=True, kw_only=True)
class PoolRequest:
    """Ask the pool for an account. `prefer` and `only` name accounts; `cache_key` is the call's prompt_cache_key.

    `unfit` names upstreams that cannot be asked this, with any of their accounts.
    """

    model: str
    surface: Surface = "responses"
    prefer: str | None = None
    only: str | None = None
    cache_key: str | None = None
    project_id: str = ""
    unfit: frozenset[str] = frozenset()

    @property
    def model_there(self) -> str:
        """Return the name under which the cooldowns of the model are kept: an account may lack it on one surface alone.

        It is the model's own for responses, and no other model's.
        """
        if self.surface == "responses" and not self.model.startswith("/"):
            return self.model
        return f"{SURFACES[self.surface]} {self.model}"

    def without(self, upstream: str) -> "PoolRequest":
        """Return the request for accounts of other upstreams."""
        return PoolRequest(
            model=self.model,
            surface=self.surface,
            prefer=self.prefer,
            only=self.only,
            cache_key=self.cache_key,
            project_id=self.project_id,
            unfit=self.unfit | {upstream},
        )


@dataclass(slots=True)
class Candidates:
    """Rank the accounts for one model until a time: tiers of equals, best first, and `probes` for one call each.

    `idle` is the smallest load that a member can have.
    """

    until: float
    idle: float
    tiers: tuple[tuple[PoolMember, ...], ...]
    probes: tuple[PoolMember, ...]

    def least_loaded(self, tried: Collection[str]) -> PoolMember | None:
        """Return the least loaded member of the best tier with one that was not tried; any among equals."""
        members = self._best(tried) if tried or not self.tiers else self.tiers[0]
        if len(members) <= 1:
            return members[0] if members else None
        start = int(random() * len(members))  # noqa: S311 - it spreads load
        best = members[start]
        # Of a hundred keys most are idle, and the first of those ends the search.
        for place in range(start + 1 - len(members), start + 1):
            if best.load <= self.idle:
                break
            if members[place].load < best.load:
                best = members[place]
        return best

    def affinity_home(self, cache_key: str, tried: Collection[str]) -> PoolMember | None:
        """Return the home of this prompt cache (rendezvous hashing): losing an account moves only its caches."""
        mark = int.from_bytes(hashlib.blake2b(cache_key.encode(errors="replace"), digest_size=8).digest())
        return max(self._best(tried), key=lambda member: ((mark ^ member.salt) * _MIX) & _WORD, default=None)

    def find(self, name: str | None) -> PoolMember | None:
        """Return the member of this account name, if it may be used and is not the last resort only."""
        return next((member for tier in self.tiers for member in tier if member.account.name == name), None)

    def _best(self, tried: Collection[str]) -> tuple[PoolMember, ...]:
        for tier in self.tiers:
            members = tuple([member for member in tier if member.account.name not in tried]) if tried else tier
            if members:
                return members
        return ()


def salt_of(name: str) -> int:
    """Return the hash of an account's name, by which prompt caches are given homes."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def rank_members(members: Iterable[PoolMember], model: str, now: float) -> Candidates:
    """Rank these members, which all serve the model, into tiers."""
    until = now + _LONGEST_SECONDS
    ranked: list[tuple[Usability, int, PoolMember]] = []
    for member in members:
        member.refresh(now)
        usability, changes = member.usability(model, now)
        until = min(until, changes)
        if usability is not Usability.OUT and member.control == "enabled":
            ranked.append((usability, member.account.tier, member))
    ranked.sort(key=lambda entry: entry[:2])
    tiers: list[tuple[PoolMember, ...]] = []
    usable = (entry for entry in ranked if entry[0] is not Usability.PROBE)
    for (usability, _), group in groupby(usable, lambda entry: entry[:2]):
        if usability is not Usability.LAST or not tiers:
            tiers.append(_members_of(tuple(group)))
    idle = min([member.share for _, _, member in ranked], default=0.0)
    return Candidates(
        until, idle, tuple(tiers), _members_of([entry for entry in ranked if entry[0] is Usability.PROBE])
    )


def _members_of(entries: Sequence[tuple[Usability, int, PoolMember]]) -> tuple[PoolMember, ...]:
    return tuple([member for _, _, member in entries])
