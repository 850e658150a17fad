"""The runs of this process: taken, claimed from those that are gone, told to stop. Must not know what a run does.

The table is looked at again and again, which is how a cancellation or a run without owner is found, whoever made it.
"""

import asyncio
from contextlib import suppress

from app.ids import new_id
from app.relay.performance import Performance
from app.relay.run_faults import Stop
from app.relay.stage import Stage
from app.state.runs import Run


class Conductor:
    """Performs runs, as many at once as the settings say.

    A run belongs to its owner for `lease_seconds` (whole, by the database's clock) from the last time that was said,
    which is three times in each; every `look_seconds` the table is looked at. A process that `is_alone` with its
    database need not wait for the leases of those before it.
    """

    def __init__(self, stage: Stage, *, is_alone: bool, lease_seconds: int = 15, look_seconds: float = 0.5) -> None:
        self._stage = stage
        self._is_others_over = not is_alone
        self._lease_seconds = lease_seconds
        self._look_seconds = look_seconds
        self._owner = new_id("owner")
        self._live: dict[int, Performance] = {}
        self._woken = asyncio.Event()
        self._renewed_at = 0.0
        self._claims_from = 0.0

    @property
    def lease_seconds(self) -> int:
        """How long a run is its owner's."""
        return self._lease_seconds

    @property
    def owner(self) -> str | None:
        """The owner of a run that is ordered now: this process, while it has room for one more; else nobody yet."""
        return self._owner if self._room > 0 else None

    def take(self, run: Run) -> None:
        """Perform a run that is ours."""
        performance = self._live[run.key] = Performance(run, self._stage)
        self._stage.registry.spawn(self._perform(performance))

    def wake(self) -> None:
        """Look at the table now."""
        self._woken.set()

    def listen(self, key: int) -> asyncio.Event | None:
        """What is set when this run has said more; None when another process performs it, or none does."""
        performance = self._live.get(key)
        return None if performance is None else performance.listen()

    async def conduct(self) -> None:
        """Look, act on what is seen, and wait for the time of the next look. Raises StorageError."""
        try:
            await self._look()
        except Exception:
            # Others could not renew their leases either. They get the time to do so before one is taken over.
            self._claims_from = self._now + self._lease_seconds / 3
            raise
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_seconds):
                await self._woken.wait()
        self._woken.clear()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _room(self) -> int:
        return self._stage.background.background_runs - len(self._live)

    async def _look(self) -> None:
        if not self._is_others_over:
            await self._stage.runs.end_other_leases(self._owner)
            self._is_others_over = True
        # A run that is taken while the table is read may not be in what was read.
        live = dict(self._live)
        seen = await self._stage.runs.watch(self._owner)
        ours = {sighting.key: sighting for sighting in seen if sighting.is_own}
        for key, performance in live.items():
            sighting = ours.get(key)
            if sighting is None or sighting.epoch != performance.run.epoch:
                performance.stop(Stop.LOST)
            elif sighting.cancel_requested:
                performance.stop(Stop.CANCELLED)
        if self._now >= self._renewed_at + self._lease_seconds / 3:
            if live:
                await self._stage.runs.renew(self._owner, live.keys(), self._lease_seconds)
            self._renewed_at = self._now
        if len(ours) < len(seen) or not ours.keys() <= self._live.keys():
            await self._claim()

    async def _claim(self) -> None:
        if self._now < self._claims_from or not self._stage.registry.is_open:
            return
        room = max(0, self._room)
        claimed = await self._stage.runs.claim(self._owner, self._lease_seconds, most=room, beside=self._live.keys())
        for run in claimed:
            self.take(run)

    async def _perform(self, performance: Performance) -> None:
        try:
            await performance.perform()
        finally:
            del self._live[performance.run.key]
            # There is room for another.
            self.wake()
