"""Keeps the pool of this process and the database of one mind. Must not know what an ailment is, nor what fits a call.

What the pool finds out is written at once; what others found out, and what administrators changed, is looked for.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import structlog

from app.errors import StorageError
from app.relay.roster import Roster
from app.settings_upstream import UpstreamSettings
from app.state.health import Condition, Recovery
from app.state.upstreams import NOTHING_STORED, Stored
from app.storage.condition_store import ConditionStore, Mark, Place, Sighting
from app.storage.upstream_store import UpstreamStore
from app.upstream.account import accounts_of_all
from app.upstream.pool import Pool

# A permission to probe is given back before another process can have it.
_GIVEN_BACK_SECONDS = 3.0
_LEFT_TO_OTHERS_SECONDS = 3.0
_FORGETS_EVERY_SECONDS = 3600.0

_log = structlog.get_logger("antiphon.upstreams")

_Noted: TypeAlias = tuple[Condition | Recovery, float]


class Changes:
    """What the pool found out and the database was not told yet: the latest of each account and model."""

    def __init__(self) -> None:
        self.noted = asyncio.Event()
        # A cooling stands beside what else is wrong with an account.
        self._latest: dict[tuple[Place, bool], _Noted] = {}

    def note(self, change: Condition | Recovery) -> None:
        """Keep this to be written. Its rest begins now."""
        is_cooling = isinstance(change, Condition) and change.state == "cooling"
        place = (change.account, change.model)
        self._latest[place, is_cooling] = (change, asyncio.get_running_loop().time())
        self.noted.set()

    def __contains__(self, place: Place) -> bool:
        return (place, False) in self._latest or (place, True) in self._latest

    def take(self) -> dict[tuple[Place, bool], _Noted]:
        """All that waits, each with the loop's time when it was noted; none of it waits any more."""
        self.noted.clear()
        taken, self._latest = self._latest, {}
        return taken

    def put_back(self, taken: dict[tuple[Place, bool], _Noted]) -> None:
        """Have it wait again, where there is nothing newer."""
        self._latest = taken | self._latest


class Keeper:
    """Looks every `look_seconds`, and writes in between when there is something to write.

    A dead account is probed by one process at a time: by the one that claims it in the database, which has
    `claim_seconds` for it; one that `is_alone` need not ask. While the database is down the pool goes on with what it
    knows, and among several processes nobody probes.
    """

    def __init__(
        self,
        pool: Pool,
        changes: Changes,
        roster: Roster,
        conditions: ConditionStore,
        upstreams: UpstreamStore,
        *,
        is_alone: bool,
        look_seconds: float = 1.0,
        claim_seconds: int = 30,
    ) -> None:
        self._pool = pool
        self._changes = changes
        self._roster = roster
        self._conditions = conditions
        self._upstreams = upstreams
        self._is_alone = is_alone
        self._look_seconds = look_seconds
        self._claim_seconds = claim_seconds
        self._stored: Stored | None = None
        self._since: int | None = None
        self._is_renewed = False
        self._marks: dict[Place, Mark] = {}
        # What this process may probe, and until when.
        self._claims: dict[Place, tuple[Condition, float]] = {}
        self._looks_at = 0.0
        self._forgets_at = 0.0
        self._is_down = False

    async def load(self) -> None:
        """See what there is, before anything is served. A database that is down is asked again by `keep`."""
        try:
            await self._turn()
        except StorageError as error:
            _log.warning("the health of upstreams cannot be shared", reason=error.message)

    async def keep(self) -> None:
        """Write and look, when there is something to write or it is time to look. Raises StorageError."""
        pause = max(0.0, self._looks_at - _now())
        if self._is_down:
            await asyncio.sleep(pause)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changes.noted.wait()
        await self._turn()
        if _now() >= self._forgets_at:
            self._forgets_at = _now() + _FORGETS_EVERY_SECONDS
            await self._conditions.forget()

    def wake(self) -> None:
        """Look now: something was changed in the database."""
        self._looks_at = 0.0
        self._changes.noted.set()

    def configure(self, configured: Sequence[UpstreamSettings]) -> None:
        """Serve the upstreams of another configuration from now on."""
        self._roster.configured = configured
        self._put_together(self._stored or NOTHING_STORED)
        self.wake()

    async def _turn(self) -> None:
        self._is_down = True
        await self._write()
        if _now() >= self._looks_at:
            self._looks_at = _now() + self._look_seconds
            await self._look()
        self._is_down = False

    async def _write(self) -> None:
        taken = self._changes.take()
        if not taken:
            return
        for place, _ in taken:
            self._claims.pop(place, None)
        try:
            written = await self._conditions.keep([_at_present(*noted) for noted in taken.values()])
        except BaseException:
            self._changes.put_back(taken)
            raise
        # What comes back of it in the next look is no news.
        self._marks.update(written)

    async def _look(self) -> None:
        look = await self._conditions.look(self._since)
        if self._stored is None or look.revision != self._stored.revision:
            self._stored = await self._upstreams.read()
            self._put_together(self._stored)
        while self._is_renewed:
            # With accounts that are new to the pool, old news is news again.
            self._is_renewed = False
            self._marks.clear()
            look = await self._conditions.look(None)
        self._since = look.now
        self._hear(look.sightings)
        self._give_back()
        if not self._is_alone:
            self._pool.ask_again(_GIVEN_BACK_SECONDS)
            await self._claim([sighting for sighting in look.sightings if self._may_claim(sighting)])

    def _hear(self, sightings: Sequence[Sighting]) -> None:
        """Tell the pool what it does not know. What it found out itself meanwhile is newer."""
        news = [
            sighting
            for sighting in sightings
            if self._marks.get(sighting.place) != sighting.mark and sighting.place not in self._changes
        ]
        self._marks = {sighting.place: sighting.mark for sighting in sightings if sighting.place not in self._changes}
        for sighting in news:
            self._claims.pop(sighting.place, None)
        if news:
            self._pool.apply([change for sighting in news for change in sighting.changes])

    def _may_claim(self, sighting: Sighting) -> bool:
        """Whether it is time to probe this account, and for this process to do so."""
        if sighting.due_for is None or sighting.place in self._changes:
            return False
        account, _ = sighting.place
        # Who has no call for it leaves it to those who have: it would keep them from it for as long as it may probe.
        return self._pool.wants_probe(account) or sighting.due_for >= _LEFT_TO_OTHERS_SECONDS

    async def _claim(self, due: Sequence[Sighting]) -> None:
        served = {account.name for account in self._pool.accounts()}
        wanted = [seen for seen in due if seen.place[0] in served]
        if not wanted:
            return
        until = _now() + self._claim_seconds - _GIVEN_BACK_SECONDS
        for claimed in await self._conditions.claim(wanted, self._claim_seconds):
            place, (condition, *_) = claimed.place, claimed.changes
            if place in self._changes or not isinstance(condition, Condition):
                continue
            self._marks[place] = claimed.mark
            self._claims[place] = (condition, until)
            self._pool.grant_probe(*place)

    def _give_back(self) -> None:
        """No call came to make these probes: another process may have one."""
        over = [place for place, (_, until) in self._claims.items() if until <= _now()]
        unused = [self._claims.pop(place)[0] for place in over if place not in self._changes]
        if unused:
            self._pool.apply([replace(condition, rest=_GIVEN_BACK_SECONDS) for condition in unused])

    def _put_together(self, stored: Stored) -> None:
        self._pool.configure(accounts_of_all(self._roster.upstreams(stored)))
        for account in self._pool.accounts():
            self._pool.control(account.name, stored.controls.get(account.name, "enabled"))
        self._is_renewed = True


def _now() -> float:
    return asyncio.get_running_loop().time()


def _at_present(change: Condition | Recovery, noted_at: float) -> Condition | Recovery:
    if isinstance(change, Recovery):
        return change
    return replace(change, rest=max(0.0, change.rest - (_now() - noted_at)))
