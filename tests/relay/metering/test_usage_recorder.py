"""The ledger in memory: what is recorded is written soon and once, also when the database was away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import StorageError
from app.relay.metering import usage_recorder as ledger_module
from app.relay.metering.prices import Prices
from app.relay.metering.usage_recorder import UsageRecorder
from app.relay.process.periodic_tasks import PeriodicTasks
from app.settings.prices import PriceSettings
from app.state.records import TokenUsage
from app.state.usage import UsageEntry
from tests.fakes.duty import on_duty


def entry(name: str = "req_1", **facts: Any) -> UsageEntry:
    return UsageEntry(1_800_000_000, name, "proj_a", "key_1", "responses", "m", False, False, **facts)


class Store:
    """A database that may be away, slow, or both. `written` are the entries that it has."""

    def __init__(self) -> None:
        self.written: list[UsageEntry] = []
        self.faults = 0
        self.wrote = asyncio.Event()
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.found: list[tuple[Sequence[UsageEntry], int | None]] = []
        self.swept: list[int | None] = []
        self.tasks: list[asyncio.Task[None]] = []

    def record(self, entries: Sequence[UsageEntry], swept: int | None = None) -> asyncio.Future[None]:
        task = asyncio.get_running_loop().create_task(self._record([*entries], swept))
        self.tasks.append(task)
        return task

    async def _record(self, entries: list[UsageEntry], swept: int | None) -> None:
        await self.going_on.wait()
        if self.faults:
            self.faults -= 1
            raise StorageError("down")
        self.written += entries
        self.swept.append(swept)
        self.wrote.set()

    async def unrecorded(self, now: int, late_seconds: int) -> tuple[Sequence[UsageEntry], int | None]:
        return self.found.pop(0) if self.found else ([], None)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def ledger(store: Store) -> UsageRecorder:
    return UsageRecorder(store, Prices([PriceSettings(model="m", input=1, output=2)]))  # type: ignore[arg-type]  # it has what is used


@pytest.fixture
async def flushing(ledger: UsageRecorder) -> AsyncIterator[PeriodicTasks]:
    async with on_duty(ledger.flush_when_due) as duties:
        yield duties


async def test_entries_are_written_soon_with_their_price(
    ledger: UsageRecorder, store: Store, flushing: PeriodicTasks
) -> None:
    ledger.record(entry(usage=TokenUsage(3, 5, 8)))
    ledger.record(entry())
    async with asyncio.timeout(10):
        await store.wrote.wait()
    assert [one.cost_nano for one in store.written] == [3 * 1000 + 5 * 2000, None]


async def test_many_are_written_at_once(
    ledger: UsageRecorder, store: Store, flushing: PeriodicTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_FLUSH_SECONDS", 3600)
    monkeypatch.setattr(ledger_module, "_FLUSH_AT", 256)
    await asyncio.sleep(0)
    for number in range(256):
        ledger.record(entry(f"req_{number}"))
    async with asyncio.timeout(10):
        await store.wrote.wait()
    assert len(store.written) == 256


async def test_what_a_failed_write_had_is_written_the_next_time(ledger: UsageRecorder, store: Store) -> None:
    store.faults = 2
    ledger.record(entry("req_1"))
    for _ in range(2):
        with pytest.raises(StorageError):
            await ledger.flush()
        ledger.record(entry("req_2"))
    await ledger.flush()
    assert [one.request_id for one in store.written] == ["req_1", "req_2", "req_2"]


async def test_a_write_that_is_cut_short_by_the_shutdown_is_not_made_twice(
    ledger: UsageRecorder, store: Store, flushing: PeriodicTasks
) -> None:
    store.going_on.clear()
    ledger.record(entry("req_1"))
    async with asyncio.timeout(10):
        while not store.tasks:
            await asyncio.sleep(0.01)
    await flushing._registry.aclose()
    ledger.record(entry("req_2"))
    store.going_on.set()
    await ledger.aclose()
    assert [one.request_id for one in store.written] == ["req_1", "req_2"]


async def test_a_database_that_stays_away_does_not_hold_up_the_shutdown(
    ledger: UsageRecorder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_PATIENCE_SECONDS", 0.01)
    store.going_on.clear()
    ledger.record(entry())
    with capture_logs() as logs:
        await ledger.aclose()
    assert [(line["event"], line["count"]) for line in logs] == [("usage was lost at shutdown", 1)]
    store.going_on.set()
    await asyncio.gather(*store.tasks)


async def test_of_too_many_the_oldest_go_and_the_log_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_MOST_WAITING", 10)
    ledger = UsageRecorder(store, Prices(()))  # type: ignore[arg-type]  # it has what is used
    for number in range(25):
        ledger.record(entry(f"req_{number}"))
    with capture_logs() as logs:
        await ledger.flush()
        await ledger.flush()
    assert [one.request_id for one in store.written] == [f"req_{number}" for number in range(15, 25)]
    assert [line["count"] for line in logs] == [15]


async def test_what_is_found_missing_is_written_until_there_is_no_more(ledger: UsageRecorder, store: Store) -> None:
    store.found = [([entry("req_1", usage=TokenUsage(1, 0, 1))], 7), ([], 9)]
    await ledger.recover()
    assert [(one.request_id, one.cost_nano) for one in store.written] == [("req_1", 1000)]
    assert store.swept == [7, 9]
