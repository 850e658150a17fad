"""Keep all members of the pool: which serve a model, which is next, and when one is free again."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from app.errors import ApiError
from app.settings.upstreams import Surface, UpstreamSettings
from app.upstream.account import Account, serves
from app.upstream.faults import pool_exhausted
from app.upstream.pool.cooldown import Cooldown
from app.upstream.pool.member import PoolMember, Usability
from app.upstream.pool.selection import Candidates, PoolRequest, rank_members, salt_of
from app.wire.error_messages import unknown_model

_T = TypeVar("_T")
# A model on a surface.
_Wanted: TypeAlias = tuple[str, Surface]
_MODELS_REMEMBERED = 256
# Clients choose the names: long ones are not remembered.
_LONGEST_REMEMBERED = 256
# A guess: how long another call or probe goes on is unknown.
_SOON_SECONDS = 1.0


class PoolMembers:
    """Hold the members of the pool, in the order of their accounts. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._members: dict[str, PoolMember] = {}
        self._serving: dict[_Wanted, Sequence[PoolMember]] = {}
        self._candidates: dict[_Wanted, Candidates] = {}

    def __iter__(self) -> Iterator[PoolMember]:
        return iter(self._members.values())

    def get(self, account: str) -> PoolMember | None:
        """Return the member of this account name."""
        return self._members.get(account)

    def upstreams(self) -> tuple[UpstreamSettings, ...]:
        """Return the upstreams that have members, in their order."""
        return tuple({member.account.upstream.name: member.account.upstream for member in self}.values())

    def configure(self, accounts: Iterable[Account]) -> None:
        """Have members for exactly these accounts; present ones keep their health and calls in flight."""
        members: dict[str, PoolMember] = {}
        for account in accounts:
            member = self._members.get(account.name)
            if member is None:
                member = PoolMember(account, salt_of(account.name))
            elif member.account != account:
                member.configure(account)
            members[account.name] = member
        self._members = members
        self._serving.clear()
        self._candidates.clear()

    def changed(self) -> None:
        """Drop the cached candidates: some member's load, health or control has changed."""
        self._candidates.clear()

    def serving(self, request: PoolRequest) -> Sequence[PoolMember]:
        """Return the members that may serve this. Raises InvalidRequestError for none, UpstreamError for one gone."""
        model, surface = request.model, request.surface
        members = self._serving.get((model, surface))
        if members is None:
            members = [member for member in self if serves(member.account.upstream, model, surface)]
            if not members:
                raise unknown_model(model)
            _remember(self._serving, (model, surface), members)
        if request.only is not None:
            members = [member for member in members if member.account.name == request.only]
            if not members:
                raise pool_exhausted.account_gone()
        if request.unfit:
            members = [member for member in members if member.account.upstream.name not in request.unfit]
            if not members:
                raise unknown_model(model)
        return members

    def next(self, request: PoolRequest, tried: Collection[str], now: float) -> tuple[PoolMember | None, str | None]:
        """Return the member to try next, if any, and the name of the preferred account. Raises as `serving` does."""
        wanted = (request.model, request.surface)
        candidates = self._candidates.get(wanted)
        if candidates is None or candidates.until <= now:
            any_account = PoolRequest(model=request.model, surface=request.surface)
            candidates = rank_members(self.serving(any_account), request.model_there, now)
            _remember(self._candidates, wanted, candidates)
        if request.only is not None:
            member = self.serving(request)[0]
            usability, _ = member.usability(request.model_there, now)
            return (None if usability is Usability.OUT or request.only in tried else member), request.only
        if request.unfit:
            tried = {*tried, *[each.account.name for each in self if each.account.upstream.name in request.unfit]}
        if request.prefer is not None:
            preferred = candidates.find(request.prefer)
            if preferred is not None and request.prefer not in tried:
                return preferred, request.prefer
        for member in candidates.probes:
            if member.account.name not in tried:
                return member, request.prefer
        if request.cache_key is not None and request.prefer is None:
            home = candidates.affinity_home(request.cache_key, tried)
            return home, None if home is None else home.account.name
        return candidates.least_loaded(tried), request.prefer

    def soonest(self, request: PoolRequest, now: float) -> float:
        """Return seconds until a limited or busy member may serve this; infinity when there is none."""
        return min((self._free_at(member, request, now) - now for member in self.serving(request)), default=math.inf)

    def exhausted(self, request: PoolRequest, now: float) -> ApiError:
        """Return the error of a call for which there is no account now, with the true time to retry."""
        soonest = self.soonest(request, now)
        if soonest < math.inf:
            return pool_exhausted.all_limited(soonest)
        found = [
            member.cooldown(request.model_there, now) for member in self.serving(request) if _is_open(member, request)
        ]
        dead = [cooldown.until for cooldown in found if cooldown is not None and cooldown.state == "dead"]
        if dead:
            return pool_exhausted.no_key_accepted(max(_SOON_SECONDS, min(dead) - now))
        return unknown_model(request.model) if found else pool_exhausted.switched_off()

    def unservable_error(self, request: PoolRequest, now: float) -> ApiError | None:
        """Return the error of a call that no member will serve, however long it waits; None when one may."""
        try:
            return None if self.soonest(request, now) < math.inf else self.exhausted(request, now)
        except ApiError as error:
            return error

    def in_same_quota_group(self, member: PoolMember) -> Sequence[PoolMember]:
        """Return the member and those that share its limit."""
        if member.group is None:
            return (member,)
        return (member, *(other for other in self if other is not member and other.group == member.group))

    def of_same_upstream(self, member: PoolMember) -> Sequence[PoolMember]:
        """Return all members of this one's upstream, itself included."""
        return [other for other in self if other.account.upstream.name == member.account.upstream.name]

    def _free_at(self, member: PoolMember, request: PoolRequest, now: float) -> float:
        cooldown = member.cooldown(request.model_there, now)
        if not _is_open(member, request) or (cooldown is not None and cooldown.state in {"dead", "removed"}):
            return math.inf
        at = now if cooldown is None else max(_end(cooldown, now), now + member.rest(now))
        if member.caps is None:
            return at
        free_at = member.caps.free_at(member.in_flight)
        return max(at, now + _SOON_SECONDS if free_at == math.inf else free_at)


def _end(cooldown: Cooldown, now: float) -> float:
    return cooldown.until if cooldown.until > now else now + _SOON_SECONDS


def _is_open(member: PoolMember, request: PoolRequest) -> bool:
    return member.control == "enabled" or (member.control == "draining" and request.only is not None)


def _remember(known: dict[_Wanted, _T], wanted: _Wanted, value: _T) -> None:
    if len(wanted[0]) <= _LONGEST_REMEMBERED:
        if len(known) >= _MODELS_REMEMBERED:
            known.clear()
        known[wanted] = value
