"""Who listens to a run is woken by what is said of it, and by nothing else."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from app.relay.background.log_reader import EventLogReader
from app.relay.background.log_signals import LogNotifier
from app.relay.process.admission_and_drain import CallRegistry
from app.runtime.byte_budget import ByteBudget, Reservation
from app.state.runs import LogView, Page
from tests.fakes.duty import on_duty


class Log:
    """One run's log, which counts how often it is read; `missed` are runs that have more than was told of them."""

    def __init__(self) -> None:
        self.reads = 0
        self.view = LogView((), is_whole=True, last=1, terminal_body=None, is_queued=True)
        self.missed: set[int] = set()
        self.looked: list[Mapping[int, int]] = []

    async def read_log(self, key: int, after: int, reserve: Any) -> LogView:
        self.reads += 1
        return self.view

    async def have_more(self, seen: Mapping[int, int]) -> Collection[int]:
        self.looked.append(seen)
        return self.missed & seen.keys()


class Ours:
    """The runs that this process works on."""

    def __init__(self) -> None:
        self.keys: set[int] = set()

    def owns(self, key: int) -> bool:
        return key in self.keys


class Heard:
    """A client that listens."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.is_over = False

    async def begin_stream(self, status: int, headers: Any) -> None:
        assert status == 200

    async def write(self, frames: bytes) -> None:
        self.frames.append(frames)

    async def end_stream(self) -> None:
        self.is_over = True


class Rig:
    def __init__(self, registry: CallRegistry) -> None:
        self.log, self.ours, self.registry = Log(), Ours(), registry
        runs: Any = self.log
        scheduler: Any = self.ours
        self.signals = LogNotifier(runs, None)
        self.reader = EventLogReader(runs, self.signals, scheduler, registry)

    @asynccontextmanager
    async def listening(self, key: int = 1) -> AsyncIterator[Heard]:
        client: Any = Heard()
        held = Reservation(ByteBudget(1000), "proj_a")
        reads = self.log.reads
        task = asyncio.create_task(self.reader.send(key, 1, client, held))
        await until(lambda: self.log.reads > reads)
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(is_so: Any) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0)


@pytest.fixture
def rig(registry: CallRegistry) -> Rig:
    return Rig(registry)


async def test_a_log_is_read_when_there_is_more_and_not_before(rig: Rig) -> None:
    async with rig.listening() as client:
        await asyncio.sleep(0.05)
        rig.signals.changed(2)
        await asyncio.sleep(0.05)
        assert rig.log.reads == 1
        rig.log.view = LogView((Page(2, 2, b"two\n\n"),), is_whole=True, last=2, terminal_body=None)
        rig.signals.changed(1)
        await until(lambda: client.frames)
        rig.log.view = LogView((), is_whole=True, last=2, terminal_body=("completed", b'{"id":"resp_1"}'))
        rig.signals.changed(1)
        await until(lambda: client.is_over)
    assert (client.frames[0], rig.log.reads) == (b"two\n\n", 3)


async def test_what_nobody_was_told_of_is_found_by_looking_at_some_in_turn(rig: Rig) -> None:
    async with AsyncExitStack() as stack:
        for key in range(150):
            await stack.enter_async_context(rig.listening(key))
        rig.log.missed = {120}
        for _ in range(3):
            await rig.signals.poll()
        await until(lambda: rig.log.reads == 151)
    assert [len(seen) for seen in rig.log.looked] == [100] * 3
    # All of them within two looks.
    assert len({*rig.log.looked[0], *rig.log.looked[1]}) == 150
    await rig.signals.poll()
    assert len(rig.log.looked) == 3


async def test_a_stopping_process_keeps_listeners_of_what_it_works_on_alone(rig: Rig) -> None:
    rig.ours.keys = {1}
    async with rig.listening(1) as kept, rig.listening(2) as let_go:
        await rig.registry.drain(0, 0)
        await until(lambda: let_go.is_over)
        assert not kept.is_over
        # It could not be begun after all.
        rig.ours.keys.clear()
        rig.signals.wake(1)
        await until(lambda: kept.is_over)


async def test_a_listener_that_left_is_forgotten(rig: Rig) -> None:
    async with rig.listening():
        pass
    async with on_duty(rig.signals.poll, 0.001):
        await asyncio.sleep(0.02)
    assert rig.log.looked == []
