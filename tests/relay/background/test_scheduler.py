"""What the conductor makes of the table: who is told to stop, what is claimed and when, whose lease goes on."""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from app.errors import StorageError
from app.relay.background.errors import StopReason
from app.relay.background.log_signals import LogNotifier
from app.relay.background.scheduler import RunScheduler
from app.relay.process.admission_and_drain import CallRegistry
from app.settings.background import BackgroundSettings
from app.state.runs import ReadyRun, Run, RunRequest, SeenRun
from tests.fakes.duty import on_duty


class Table:
    """The runs as they are seen: what was asked of the table is noted. It fails while `is_down`.

    The projects whose runs `queued` counts have so many that wait; `running` are those of them that were claimed.
    """

    def __init__(self) -> None:
        self.seen: list[SeenRun] = []
        self.is_down = False
        self.claims: list[set[int]] = []
        self.renewed: list[set[int]] = []
        self.queued: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.resting: set[str] = set()
        self.left_out: set[str] = set()

    async def watch(self, owner: str) -> Sequence[SeenRun]:
        if self.is_down:
            raise StorageError("down")
        return self.seen

    async def waiting(
        self, resting: Collection[str], wait_seconds: float, left_out: Collection[str] = ()
    ) -> Sequence[ReadyRun]:
        self.resting, self.left_out = set(resting), set(left_out)
        # The first project's have the lowest keys, and are the oldest.
        return [
            ReadyRun(project_id, 1000 * number - self.queued[project_id], self.running[project_id])
            for number, project_id in enumerate(self.queued, 1)
            if self.queued[project_id] and project_id not in left_out
        ]

    async def claim(self, owner: str, lease_seconds: int, keys: Collection[int]) -> Sequence[Run]:
        self.claims.append(set(keys))
        claimed = []
        for one in await self.waiting(self.resting, 0):
            if one.key in keys:
                self.queued[one.project_id] -= 1
                self.running[one.project_id] += 1
                claimed.append(run_of(one.key, one.project_id))
        return claimed

    async def renew(self, owner: str, keys: Collection[int], lease_seconds: int) -> None:
        self.renewed.append(set(keys))


def order_of(project_id: str, conversation_id: str | None = None) -> RunRequest:
    return RunRequest("resp_1", project_id, "key_1", True, False, {}, b"{}", model="m", conversation_id=conversation_id)


def run_of(key: int, project_id: str, epoch: int = 1) -> Run:
    return Run(key, epoch, order_of(project_id), "queued", b"{}", cancel_requested=False, waited=0)


def owner_of(rig: "Rig", order: RunRequest) -> str | None:
    with rig.scheduler.room_for(order) as owner:
        return owner


class Performed:
    """A run that is performed until it is stopped, or is told that it has ended."""

    def __init__(self, run: Run, _dependencies: Any = None) -> None:
        self.run = run
        self.stops: list[StopReason] = []
        self.was_requeued = False
        self.ends = asyncio.Event()

    def stop(self, reason: StopReason) -> None:
        self.stops.append(reason)

    async def work(self) -> None:
        await self.ends.wait()


class Rig:
    def __init__(self, registry: CallRegistry, lease_seconds: int = 15, background_runs: int = 3) -> None:
        self.table = Table()
        self.registry = registry
        runs: Any = self.table
        self.runs = runs
        self.signals = LogNotifier(runs, None)
        self.upstream = self
        self.resting: set[str] = set()
        self.background = BackgroundSettings(background_runs=background_runs)
        stage: Any = self
        self.scheduler = RunScheduler(stage, is_alone=False, lease_seconds=lease_seconds, poll_seconds=0.01)

    def is_resting(self, model: str) -> bool:
        return model in self.resting

    def work(self, key: int, epoch: int, project_id: str = "proj_a") -> Performed:
        performed = Performed(run_of(key, project_id, epoch))
        worker: Any = performed
        self.scheduler._live[key] = worker
        return performed

    @property
    def live(self) -> list[Any]:
        return list(self.scheduler._live.values())

    async def end(self, performed: Any) -> None:
        """Have it end, and see to it that this was seen."""
        performed.ends.set()
        self.table.running[performed.run.request.project_id] -= 1
        while performed.run.key in self.scheduler._live:
            await asyncio.sleep(0)


@pytest.fixture
def rig(registry: CallRegistry) -> Rig:
    return Rig(registry)


async def test_a_run_is_stopped_that_is_lost_or_was_cancelled(rig: Rig) -> None:
    kept, gone, taken, cancelled = [rig.work(key, 1) for key in range(4)]
    rig.table.seen = [
        SeenRun(0, 1, cancel_requested=False, is_own=True),
        SeenRun(2, 2, cancel_requested=False, is_own=True),
        SeenRun(3, 1, cancel_requested=True, is_own=True),
    ]
    await rig.scheduler._poll()
    assert (kept.stops, gone.stops, taken.stops) == ([], [StopReason.LOST], [StopReason.LOST])
    assert cancelled.stops == [StopReason.CANCELLED]
    assert rig.table.claims == []


async def test_the_leases_of_what_is_performed_go_on_and_no_others(rig: Rig) -> None:
    rig.work(0, 1)
    # One that is ours, and that nobody here performs: its order was cut off right after its commit.
    rig.table.seen = [SeenRun(key, 1, cancel_requested=False, is_own=True) for key in (0, 1)]
    await rig.scheduler._poll()
    await rig.scheduler._poll()
    assert rig.table.renewed == [{0}]


async def test_what_is_to_be_ended_needs_no_room_and_what_waits_does(rig: Rig) -> None:
    rig.table.seen = [SeenRun(9, 1, cancel_requested=True, is_own=False)]
    rig.table.queued["proj_b"] = 1
    for key in range(3):
        rig.work(key, 1)
    await rig.scheduler._poll()
    assert rig.table.claims == [{9}]


async def test_nothing_is_asked_for_while_there_is_no_room_and_nothing_to_be_ended(rig: Rig) -> None:
    for key in range(3):
        rig.work(key, 1)
    rig.table.queued["proj_b"] = 1
    await rig.scheduler._poll()
    assert rig.table.claims == []


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.relay.background.scheduler.RunWorker", Performed)


@pytest.mark.usefixtures("performed")
async def test_projects_take_turns_however_many_orders_one_has(registry: CallRegistry) -> None:
    rig = Rig(registry, background_runs=1)
    rig.table.queued.update({"proj_a": 500, "proj_b": 2, "proj_c": 1})
    begun = []
    for _ in range(6):
        await rig.scheduler._poll()
        (worker,) = rig.live
        begun.append(worker.run.request.project_id)
        await rig.end(worker)
    assert begun == ["proj_a", "proj_b", "proj_c", "proj_a", "proj_b", "proj_a"]


@pytest.mark.usefixtures("performed")
async def test_whoever_has_the_fewest_worked_on_comes_first(registry: CallRegistry) -> None:
    rig = Rig(registry, background_runs=1)
    rig.table.queued.update({"proj_a": 5, "proj_b": 5})
    # At other replicas.
    rig.table.running.update({"proj_a": 3, "proj_b": 1})
    begun = []
    for _ in range(3):
        await rig.scheduler._poll()
        (worker,) = rig.live
        begun.append(worker.run.request.project_id)
        worker.ends.set()
        while rig.live:
            await asyncio.sleep(0)
    assert begun == ["proj_b", "proj_b", "proj_a"]


@pytest.mark.usefixtures("performed")
async def test_one_project_has_not_all_the_room_and_another_begins_at_once(registry: CallRegistry) -> None:
    rig = Rig(registry, background_runs=16)
    rig.table.queued["proj_a"] = 500
    async with on_duty(rig.scheduler.run):
        async with asyncio.timeout(30):
            while len(rig.live) < 14:
                await asyncio.sleep(0.01)
        looks = len(rig.table.claims)
        assert owner_of(rig, order_of("proj_a")) is None
        rig.table.queued["proj_b"] = 1
        rig.scheduler.wake()
        async with asyncio.timeout(30):
            while len(rig.live) < 15:
                await asyncio.sleep(0.01)
        # Of a project that has its share nothing is looked for.
        assert rig.table.left_out == {"proj_a"}
    assert len(rig.table.claims) == looks + 1
    assert Counter(one.run.request.project_id for one in rig.live) == {"proj_a": 14, "proj_b": 1}


@pytest.mark.usefixtures("performed")
async def test_an_order_is_begun_at_once_unless_it_is_somebody_elses_turn(registry: CallRegistry) -> None:
    rig = Rig(registry, background_runs=2)
    assert owner_of(rig, order_of("proj_b")) is not None
    # In a conversation another may have been ordered before.
    assert owner_of(rig, order_of("proj_b", "conv_1")) is None
    rig.table.queued["proj_a"] = 2
    await rig.scheduler._poll()
    assert owner_of(rig, order_of("proj_b")) is None
    await rig.end(rig.live[0])
    await rig.scheduler._poll()
    await rig.end(rig.live[0])
    await rig.scheduler._poll()
    assert owner_of(rig, order_of("proj_b")) is not None


@pytest.mark.usefixtures("performed")
async def test_orders_that_are_being_committed_have_their_places_already(registry: CallRegistry) -> None:
    rig = Rig(registry, background_runs=3)
    with ExitStack() as ordering:
        owners = [ordering.enter_context(rig.scheduler.room_for(order_of("proj_a"))) for _ in range(5)]
        assert [owner is not None for owner in owners] == [True, True, False, False, False]
        assert owner_of(rig, order_of("proj_b")) is not None
        rig.table.queued["proj_a"] = rig.table.queued["proj_b"] = 9
        await rig.scheduler._poll()
        assert Counter(one.run.request.project_id for one in rig.live) == {"proj_b": 1}
    # What was not committed leaves its place.
    assert rig.scheduler._room == 2


@pytest.mark.usefixtures("performed")
async def test_runs_of_a_model_that_rests_are_left_alone_until_it_rests_no_more(rig: Rig) -> None:
    rig.resting = {"m", "other"}
    rig.table.queued["proj_a"] = 1
    await rig.scheduler._poll()
    # That it rests is known of a run that was put back.
    assert rig.table.resting == set()
    (worker,) = rig.live
    worker.was_requeued = True
    await rig.end(worker)
    await rig.scheduler._poll()
    assert rig.table.resting == {"m"}
    rig.resting.clear()
    await rig.scheduler._poll()
    assert rig.table.resting == set()


async def test_nothing_is_claimed_while_the_process_stops(rig: Rig) -> None:
    rig.table.seen = [SeenRun(9, 1, cancel_requested=False, is_own=False)]
    await rig.registry.drain(0, 0)
    await rig.scheduler._poll()
    assert rig.table.claims == []


async def test_after_an_outage_the_others_may_renew_before_one_is_taken_over(registry: CallRegistry) -> None:
    rig = Rig(registry, lease_seconds=3)
    rig.table.seen = [SeenRun(9, 1, cancel_requested=False, is_own=False)]
    rig.table.is_down = True
    loop = asyncio.get_running_loop()
    async with on_duty(rig.scheduler.run):
        await asyncio.sleep(0.05)
        rig.table.is_down = False
        back = loop.time()
        async with asyncio.timeout(20):
            while not rig.table.claims:
                await asyncio.sleep(0.01)
        assert loop.time() - back > 0.5
