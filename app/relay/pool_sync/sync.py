"""Synchronise the pool of this process with the database: account conditions, upstreams and their controls.

What the pool finds out is written at once; what other processes found out and administrators changed is polled.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import structlog

from app.errors import StorageError
from app.relay.pool_sync.served_upstreams import ServedUpstreams
from app.settings.upstreams import UpstreamSettings
from app.state.account_conditions import Condition, Recovery
from app.state.upstreams import NOTHING_STORED, StoredUpstreams
from app.storage.upstreams.conditions import AccountModel, ConditionStore, Mark, SeenCondition
from app.storage.upstreams.store import UpstreamStore
from app.upstream.account import accounts_of_all
from app.upstream.pool.pool import Pool

# A permission to probe is given back before another process can have it.
_GIVEN_BACK_SECONDS = 3.0
_LEFT_TO_OTHERS_SECONDS = 3.0
_FORGETS_EVERY_SECONDS = 3600.0

_log = structlog.get_logger("antiphon.upstreams")

_Noted: TypeAlias = tuple[Condition | Recovery, float]


class PendingConditions:
    """Queue what the pool found out and the database does not have yet: the latest of each account and model."""

    def __init__(self) -> None:
        self.noted = asyncio.Event()
        # A timed cooldown is kept beside any other condition of an account.
        self._latest: dict[tuple[AccountModel, bool], _Noted] = {}

    def note(self, change: Condition | Recovery) -> None:
        """Queue this change to be written. Its cooldown begins now."""
        is_cooling = isinstance(change, Condition) and change.state == "cooling"
        place = (change.account, change.model)
        self._latest[place, is_cooling] = (change, asyncio.get_running_loop().time())
        self.noted.set()

    def __contains__(self, place: AccountModel) -> bool:
        return (place, False) in self._latest or (place, True) in self._latest

    def take(self) -> dict[tuple[AccountModel, bool], _Noted]:
        """Take all that waits, each with the loop's time when it was noted; the queue is empty then."""
        self.noted.clear()
        taken, self._latest = self._latest, {}
        return taken

    def put_back(self, taken: dict[tuple[AccountModel, bool], _Noted]) -> None:
        """Queue these again, where there is nothing newer."""
        self._latest = taken | self._latest


class PoolSync:
    """Poll the database every `poll_seconds`, and write in between when there is something to write.

    A dead account is probed by one process at a time: by the one that claims it in the database, which has
    `claim_seconds` for it; a process that `is_alone` need not ask. While the database is down the pool goes on with
    what it knows, and among several processes nobody probes.
    """

    def __init__(
        self,
        pool: Pool,
        changes: PendingConditions,
        served_upstreams: ServedUpstreams,
        conditions: ConditionStore,
        upstreams: UpstreamStore,
        *,
        is_alone: bool,
        poll_seconds: float = 1.0,
        claim_seconds: int = 30,
    ) -> None:
        self._pool = pool
        self._changes = changes
        self._served_upstreams = served_upstreams
        self._conditions = conditions
        self._upstreams = upstreams
        self._is_alone = is_alone
        self._poll_seconds = poll_seconds
        self._claim_seconds = claim_seconds
        self._stored: StoredUpstreams | None = None
        self._since: int | None = None
        self._is_renewed = False
        self._marks: dict[AccountModel, Mark] = {}
        # The accounts that this process may probe, and until when.
        self._claims: dict[AccountModel, tuple[Condition, float]] = {}
        self._polls_at = 0.0
        self._forgets_at = 0.0
        self._is_down = False

    async def load(self) -> None:
        """Read the database before anything is served. A database that is down is asked again by `run`."""
        try:
            await self._turn()
        except StorageError as error:
            _log.warning("the health of upstreams cannot be shared", reason=error.message)

    async def run(self) -> None:
        """Write and poll, when there is something to write or it is time to poll. Raises StorageError."""
        pause = max(0.0, self._polls_at - _now())
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
        """Poll now: something was changed in the database."""
        self._polls_at = 0.0
        self._changes.noted.set()

    def configure(self, configured: Sequence[UpstreamSettings]) -> None:
        """Serve the upstreams of another configuration from now on."""
        self._served_upstreams.configured = configured
        self._reconfigure(self._stored or NOTHING_STORED)
        self.wake()

    async def _turn(self) -> None:
        self._is_down = True
        await self._write()
        if _now() >= self._polls_at:
            self._polls_at = _now() + self._poll_seconds
            await self._poll()
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
        # The next poll returns these too, and they are no news then.
        self._marks.update(written)

    async def _poll(self) -> None:
        look = await self._conditions.look(self._since)
        if self._stored is None or look.revision != self._stored.revision:
            self._stored = await self._upstreams.read()
            self._reconfigure(self._stored)
        while self._is_renewed:
            # Accounts that are new to the pool need all conditions again.
            self._is_renewed = False
            self._marks.clear()
            look = await self._conditions.look(None)
        self._since = look.now
        self._apply(look.seen)
        self._give_back()
        if not self._is_alone:
            self._pool.ask_again(_GIVEN_BACK_SECONDS)
            await self._claim([sighting for sighting in look.seen if self._may_claim(sighting)])

    def _apply(self, sightings: Sequence[SeenCondition]) -> None:
        """Give the pool the conditions that it does not know. What it found out itself meanwhile is newer."""
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

    def _may_claim(self, sighting: SeenCondition) -> bool:
        """Tell whether it is time to probe this account, and for this process to do so."""
        if sighting.due_for is None or sighting.place in self._changes:
            return False
        account, _ = sighting.place
        # A process without a call for the account leaves the claim to others: its claim would block theirs.
        return self._pool.wants_probe(account) or sighting.due_for >= _LEFT_TO_OTHERS_SECONDS

    async def _claim(self, due: Sequence[SeenCondition]) -> None:
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
        """Give back claims whose probes no call came to make: another process may have one."""
        over = [place for place, (_, until) in self._claims.items() if until <= _now()]
        unused = [self._claims.pop(place)[0] for place in over if place not in self._changes]
        if unused:
            self._pool.apply([replace(condition, rest=_GIVEN_BACK_SECONDS) for condition in unused])

    def _reconfigure(self, stored: StoredUpstreams) -> None:
        self._pool.configure(accounts_of_all(self._served_upstreams.upstreams(stored)))
        for account in self._pool.accounts():
            self._pool.control(account.name, stored.controls.get(account.name, "enabled"))
        self._is_renewed = True


def _now() -> float:
    return asyncio.get_running_loop().time()


def _at_present(change: Condition | Recovery, noted_at: float) -> Condition | Recovery:
    if isinstance(change, Recovery):
        return change
    return replace(change, rest=max(0.0, change.rest - (_now() - noted_at)))
