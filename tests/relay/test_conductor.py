"""What the conductor makes of the table: who is told to stop, what is claimed and when, whose lease goes on."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from app.errors import StorageError
from app.relay.conductor import Conductor
from app.relay.registry import Registry
from app.relay.run_faults import Stop
from app.settings_background import BackgroundSettings
from app.state.runs import Sighting
from tests.fakes.duty import on_duty


class Table:
    """The runs as they are seen: what was asked of the table is noted. It fails while `is_down`."""

    def __init__(self) -> None:
        self.seen: list[Sighting] = []
        self.is_down = False
        self.claims: list[tuple[int, set[int]]] = []
        self.renewed: list[set[int]] = []

    async def watch(self, owner: str) -> Sequence[Sighting]:
        if self.is_down:
            raise StorageError("down")
        return self.seen

    async def claim(self, owner: str, lease_seconds: int, *, most: int, beside: Collection[int]) -> Sequence[Any]:
        self.claims.append((most, set(beside)))
        return []

    async def renew(self, owner: str, keys: Collection[int], lease_seconds: int) -> None:
        self.renewed.append(set(keys))


class Performed:
    """A run that is performed until it is stopped."""

    def __init__(self, epoch: int) -> None:
        self.run = self
        self.epoch = epoch
        self.stops: list[Stop] = []

    def stop(self, reason: Stop) -> None:
        self.stops.append(reason)


class Rig:
    def __init__(self, registry: Registry, lease_seconds: int = 15) -> None:
        self.table = Table()
        self.registry = registry
        self.runs: Any = self.table
        self.background = BackgroundSettings(background_runs=3)
        stage: Any = self
        self.conductor = Conductor(stage, is_alone=False, lease_seconds=lease_seconds, look_seconds=0.01)

    def perform(self, key: int, epoch: int) -> Performed:
        performed: Any = Performed(epoch)
        self.conductor._live[key] = performed
        return performed  # type: ignore[no-any-return]  # it stands in for a performance


@pytest.fixture
def rig(registry: Registry) -> Rig:
    return Rig(registry)


async def test_a_run_is_stopped_that_is_lost_or_was_cancelled(rig: Rig) -> None:
    kept, gone, taken, cancelled = [rig.perform(key, 1) for key in range(4)]
    rig.table.seen = [
        Sighting(0, 1, cancel_requested=False, is_own=True),
        Sighting(2, 2, cancel_requested=False, is_own=True),
        Sighting(3, 1, cancel_requested=True, is_own=True),
    ]
    await rig.conductor._look()
    assert (kept.stops, gone.stops, taken.stops) == ([], [Stop.LOST], [Stop.LOST])
    assert cancelled.stops == [Stop.CANCELLED]
    assert rig.table.claims == []


async def test_the_leases_of_what_is_performed_go_on_and_no_others(rig: Rig) -> None:
    rig.perform(0, 1)
    # One that is ours, and that nobody here performs: its order was cut off right after its commit.
    rig.table.seen = [Sighting(key, 1, cancel_requested=False, is_own=True) for key in (0, 1)]
    await rig.conductor._look()
    await rig.conductor._look()
    assert rig.table.renewed == [{0}]
    # It is claimed once its lease is over, as any other.
    assert rig.table.claims[-1] == (2, {0})


async def test_what_is_free_is_claimed_as_far_as_there_is_room(rig: Rig) -> None:
    rig.table.seen = [Sighting(9, 1, cancel_requested=False, is_own=False)]
    for key in range(3):
        assert rig.conductor.owner is not None
        rig.perform(key, 1)
    assert rig.conductor.owner is None
    await rig.conductor._look()
    assert rig.table.claims == [(0, {0, 1, 2})]


async def test_nothing_is_claimed_while_the_process_stops(rig: Rig) -> None:
    rig.table.seen = [Sighting(9, 1, cancel_requested=False, is_own=False)]
    await rig.registry.drain(0, 0)
    await rig.conductor._look()
    assert rig.table.claims == []


async def test_after_an_outage_the_others_may_renew_before_one_is_taken_over(registry: Registry) -> None:
    rig = Rig(registry, lease_seconds=3)
    rig.table.seen = [Sighting(9, 1, cancel_requested=False, is_own=False)]
    rig.table.is_down = True
    loop = asyncio.get_running_loop()
    async with on_duty(rig.conductor.conduct):
        await asyncio.sleep(0.05)
        rig.table.is_down = False
        back = loop.time()
        async with asyncio.timeout(20):
            while not rig.table.claims:
                await asyncio.sleep(0.01)
        assert loop.time() - back > 0.5
