"""Schedule the runs of this process: claim them by turn among projects, renew their leases, stop them.

The table is polled, which is how a cancellation or a run without owner is found, whichever process made it. A queued
run's request is not read before the run can begin.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from app.ids import new_id
from app.relay.background.errors import StopReason
from app.relay.background.run_dependencies import RunDependencies
from app.relay.background.worker import RunWorker
from app.runtime.fair_queue import share
from app.state.runs import ReadyRun, Run, RunRequest

# Projects whose last turn is remembered, and models that may be in cooldown: enough to be fair, and bounded.
_MOST_PROJECTS = 1000
_MOST_MODELS = 64


class RunScheduler:
    """Work on runs, as many at once as the settings say.

    A run is its owner's for `lease_seconds` (whole, by the database's clock) from the last renewal, of which there are
    three in each; every `poll_seconds` the table is polled. A process that `is_alone` with its database need not wait
    for the leases of processes before it.

    The next run is of the project with the fewest active runs anywhere, and among equals of the one whose turn here was
    the longest ago. No project has all the room: another's run begins at once.
    """

    def __init__(
        self, dependencies: RunDependencies, *, is_alone: bool, lease_seconds: int = 15, poll_seconds: float = 0.5
    ) -> None:
        self._dependencies = dependencies
        self._is_others_over = not is_alone
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._owner = new_id("owner")
        self._live: dict[int, RunWorker] = {}
        # Of each project, the runs that are being committed and will begin here.
        self._promised: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._renewed_at = 0.0
        self._claims_from = 0.0
        self._is_behind = False
        # The project whose turn was the longest ago first.
        self._turns: dict[str, None] = {}
        self._may_be_limited: dict[str, None] = {}

    @property
    def lease_seconds(self) -> int:
        """Return how long a run is its owner's."""
        return self._lease_seconds

    @contextmanager
    def room_for(self, run_request: RunRequest) -> Iterator[str | None]:
        """Reserve room for a run that is created within the context, and yield the owner that it gets.

        The owner is this process while it has room and it is nobody else's turn; else None, and the run waits. A run in
        a conversation has no owner yet: the next poll tells whether another was queued before it.
        """
        project_id = run_request.project_id
        is_ours = run_request.conversation_id is None and not self._is_behind and self._has_room(project_id)
        # Hundreds may be created before the first of them is committed.
        self._promised[project_id] += is_ours
        try:
            yield self._owner if is_ours else None
        finally:
            self._promised[project_id] -= is_ours
            if not self._promised[project_id]:
                del self._promised[project_id]

    def take(self, run: Run) -> None:
        """Work on a run that this process owns."""
        worker = self._live[run.key] = RunWorker(run, self._dependencies)
        _put_last(self._turns, run.request.project_id, _MOST_PROJECTS)
        self._dependencies.registry.spawn(self._work_on(worker))

    def wake_for(self, run_request: RunRequest) -> None:
        """Poll the table for a run that waits, unless it could not begin here now."""
        if self._has_room(run_request.project_id):
            self.wake()

    def owns(self, key: int) -> bool:
        """Tell whether this process works on the run."""
        return key in self._live

    def wake(self) -> None:
        """Poll the table now."""
        self._woken.set()

    async def run(self) -> None:
        """Poll, act on what is found, and wait for the time of the next poll. Raises StorageError."""
        try:
            await self._poll()
        except Exception:
            # Other processes could not renew their leases either, and get the time to do so before a takeover.
            self._claims_from = self._now + self._lease_seconds / 3
            raise
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._woken.wait()
        self._woken.clear()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _room(self) -> int:
        return self._dependencies.background.background_runs - len(self._live) - self._promised.total()

    async def _poll(self) -> None:
        if not self._is_others_over:
            await self._dependencies.runs.end_other_leases(self._owner)
            self._is_others_over = True
        # A run that is taken while the table is read may be missing in the result.
        live = dict(self._live)
        seen = await self._dependencies.runs.watch(self._owner)
        ours = {sighting.key: sighting for sighting in seen if sighting.is_own}
        for key, worker in live.items():
            sighting = ours.get(key)
            if sighting is None or sighting.epoch != worker.run.epoch:
                worker.stop(StopReason.LOST)
            elif sighting.cancel_requested:
                worker.stop(StopReason.CANCELLED)
        if self._now >= self._renewed_at + self._lease_seconds / 3:
            if live:
                await self._dependencies.runs.renew(self._owner, live.keys(), self._lease_seconds)
            self._renewed_at = self._now
        await self._claim([sighting.key for sighting in seen if not sighting.is_own])

    async def _claim(self, ends: Collection[int]) -> None:
        """Claim runs that only have to end, which needs no room, and runs that can begin, one per project in turn."""
        if self._now < self._claims_from or not self._dependencies.registry.is_open:
            return
        begins = await self._next_by_turn() if self._room > 0 else ()
        self._is_behind = self._room <= 0 or bool(begins)
        keys = {*ends, *begins} - self._live.keys()
        if not keys:
            return
        for run in await self._dependencies.runs.claim(self._owner, self._lease_seconds, keys):
            self.take(run)
        if begins:
            # The next of each project.
            self.wake()

    async def _next_by_turn(self) -> Sequence[int]:
        """Return the runs that begin now, as many as there is room for."""
        upstream, wait_seconds = self._dependencies.upstream, self._dependencies.background.background_wait_seconds
        self._may_be_limited = {model: None for model in self._may_be_limited if upstream.is_resting(model)}
        held = {one.run.request.project_id for one in self._live.values()} | self._promised.keys()
        # A project that has its share may have hundreds more, and each would be read.
        full = {project_id for project_id in held if not self._has_room(project_id)}
        found = await self._dependencies.runs.waiting(self._may_be_limited, wait_seconds, full)
        turns = {project_id: number for number, project_id in enumerate(self._turns)}

        def turn(run: ReadyRun) -> tuple[int, int, int]:
            return run.running, turns.get(run.project_id, -1), run.key

        able = [run for run in found if run.key not in self._live and self._has_room(run.project_id)]
        return [run.key for run in sorted(able, key=turn)[: self._room]]

    def _has_room(self, project_id: str) -> bool:
        held = self._promised[project_id] + sum(one.run.request.project_id == project_id for one in self._live.values())
        return self._room > 0 and held < share(self._dependencies.background.background_runs)

    async def _work_on(self, worker: RunWorker) -> None:
        run = worker.run
        try:
            await worker.work()
        finally:
            del self._live[run.key]
            if worker.was_requeued and run.request.model is not None:
                _put_last(self._may_be_limited, run.request.model, _MOST_MODELS)
            # A listener of a queued run has to end when the process stops.
            self._dependencies.signals.wake(run.key)
            # There is room for another.
            self.wake()


def _put_last(names: dict[str, None], name: str, most: int) -> None:
    """Move the name to the end; of too many the first is forgotten."""
    names.pop(name, None)
    names[name] = None
    if len(names) > most:
        del names[next(iter(names))]
