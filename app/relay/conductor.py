"""The runs of this process: taken, claimed by turn among projects, told to stop. Must not know what a run does.

The table is looked at again and again, which is how a cancellation or a run without owner is found, whoever made it.
What waits is not read before it can begin.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from app.fair_queue import share
from app.ids import new_id
from app.relay.performance import Performance
from app.relay.run_faults import Stop
from app.relay.stage import Stage
from app.state.runs import Order, Run, Waiting

# Projects of which it is known when they had their turn, and models that may rest: enough to be fair, and bounded.
_MOST_PROJECTS = 1000
_MOST_MODELS = 64


class Conductor:
    """Performs runs, as many at once as the settings say.

    A run belongs to its owner for `lease_seconds` (whole, by the database's clock) from the last time that was said,
    which is three times in each; every `look_seconds` the table is looked at. A process that `is_alone` with its
    database need not wait for the leases of those before it.

    The next run is of the project of which the fewest are worked on anywhere, and among equals of the one whose turn
    here was the longest ago. No project has all the room: another's run begins at once.
    """

    def __init__(self, stage: Stage, *, is_alone: bool, lease_seconds: int = 15, look_seconds: float = 0.5) -> None:
        self._stage = stage
        self._is_others_over = not is_alone
        self._lease_seconds = lease_seconds
        self._look_seconds = look_seconds
        self._owner = new_id("owner")
        self._live: dict[int, Performance] = {}
        # Of each project, the runs that are being committed and will be performed here.
        self._promised: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._renewed_at = 0.0
        self._claims_from = 0.0
        self._is_behind = False
        # The one whose turn was the longest ago first.
        self._turns: dict[str, None] = {}
        self._may_rest: dict[str, None] = {}

    @property
    def lease_seconds(self) -> int:
        """How long a run is its owner's."""
        return self._lease_seconds

    @contextmanager
    def room_for(self, order: Order) -> Iterator[str | None]:
        """Keep a place for a run that is ordered within the context, and give the owner that it gets.

        That is this process while it has room and it is nobody else's turn; else None, and the run waits. In a
        conversation it is nobody's yet: whether another was ordered before it, the look at the table tells.
        """
        project_id = order.project_id
        is_ours = order.conversation_id is None and not self._is_behind and self._has_room(project_id)
        # Hundreds may be ordered before the first of them is committed.
        self._promised[project_id] += is_ours
        try:
            yield self._owner if is_ours else None
        finally:
            self._promised[project_id] -= is_ours
            if not self._promised[project_id]:
                del self._promised[project_id]

    def take(self, run: Run) -> None:
        """Perform a run that is ours."""
        performance = self._live[run.key] = Performance(run, self._stage)
        _put_last(self._turns, run.order.project_id, _MOST_PROJECTS)
        self._stage.registry.spawn(self._perform(performance))

    def wake_for(self, order: Order) -> None:
        """Look at the table for a run that waits, unless it could not begin here now."""
        if self._has_room(order.project_id):
            self.wake()

    def performs(self, key: int) -> bool:
        """Tell whether this process works on the run."""
        return key in self._live

    def wake(self) -> None:
        """Look at the table now."""
        self._woken.set()

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
        return self._stage.background.background_runs - len(self._live) - self._promised.total()

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
        await self._claim([sighting.key for sighting in seen if not sighting.is_own])

    async def _claim(self, ends: Collection[int]) -> None:
        """Take what only has to be ended, which needs no room, and what can begin, one run of each project in turn."""
        if self._now < self._claims_from or not self._stage.registry.is_open:
            return
        begins = await self._in_turn() if self._room > 0 else ()
        self._is_behind = self._room <= 0 or bool(begins)
        keys = {*ends, *begins} - self._live.keys()
        if not keys:
            return
        for run in await self._stage.runs.claim(self._owner, self._lease_seconds, keys):
            self.take(run)
        if begins:
            # The next of each project.
            self.wake()

    async def _in_turn(self) -> Sequence[int]:
        """The runs that begin now, as many as there is room for."""
        upstream, wait_seconds = self._stage.upstream, self._stage.background.background_wait_seconds
        self._may_rest = {model: None for model in self._may_rest if upstream.is_resting(model)}
        held = {one.run.order.project_id for one in self._live.values()} | self._promised.keys()
        # A project that has its share may have hundreds more, and each would be looked at.
        full = {project_id for project_id in held if not self._has_room(project_id)}
        found = await self._stage.runs.waiting(self._may_rest, wait_seconds, full)
        turns = {project_id: number for number, project_id in enumerate(self._turns)}

        def turn(run: Waiting) -> tuple[int, int, int]:
            return run.running, turns.get(run.project_id, -1), run.key

        able = [run for run in found if run.key not in self._live and self._has_room(run.project_id)]
        return [run.key for run in sorted(able, key=turn)[: self._room]]

    def _has_room(self, project_id: str) -> bool:
        held = self._promised[project_id] + sum(one.run.order.project_id == project_id for one in self._live.values())
        return self._room > 0 and held < share(self._stage.background.background_runs)

    async def _perform(self, performance: Performance) -> None:
        run = performance.run
        try:
            await performance.perform()
        finally:
            del self._live[run.key]
            if performance.was_left and run.order.model is not None:
                _put_last(self._may_rest, run.order.model, _MOST_MODELS)
            # Who listens may have nobody to listen to any more.
            self._stage.signals.wake(run.key)
            # There is room for another.
            self.wake()


def _put_last(names: dict[str, None], name: str, most: int) -> None:
    """Have the name at the end; of too many the first is forgotten."""
    names.pop(name, None)
    names[name] = None
    if len(names) > most:
        del names[next(iter(names))]
