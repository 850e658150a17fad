"""The storage steps of a call have one time together: a database that hangs costs a call no more than that."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from app.errors import StorageError
from app.relay.process.admission_and_drain import CallRegistry
from app.runtime import storage_time
from app.runtime.storage_time import StorageTime
from app.storage.engine.database import Database
from app.storage.writer.writer import Writer
from tests.storage.conftest import Count

WHOLE = 5.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


def test_a_slow_step_leaves_the_next_less_and_a_fast_one_all(clock: list[float]) -> None:
    ours = StorageTime()
    clock[0] += 0.1
    ours.spend(WHOLE, 100.0)
    assert ours.left(WHOLE) == WHOLE
    began = clock[0]
    clock[0] += 3
    ours.spend(WHOLE, began)
    assert ours.left(WHOLE) == pytest.approx(2)
    began = clock[0]
    clock[0] += 2
    ours.spend(WHOLE, began)
    assert ours.left(WHOLE) == 0


def test_what_was_spent_comes_back_while_the_call_waits_for_something_else(clock: list[float]) -> None:
    ours = StorageTime()
    clock[0] += 4
    ours.spend(WHOLE, 100.0)
    clock[0] += 1
    assert ours.left(WHOLE) == pytest.approx(2)
    clock[0] += 60
    assert ours.left(WHOLE) == WHOLE


async def test_a_step_after_a_slow_one_ends_when_the_calls_time_is_over(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=1.0)
    writer = Writer(database, 1.0)
    release = threading.Event()
    storage_time.begin_call()
    began = time.monotonic()
    await database.read(lambda _: time.sleep(0.8))
    database.write(lambda _: release.wait(20))
    with pytest.raises(StorageError, match="commit in time"):
        await writer.submit(Count())
    with pytest.raises(StorageError, match="could not answer"):
        await database.read(lambda _: release.wait(20))
    took = time.monotonic() - began
    release.set()
    # Three times the timeout where each step has its own; a busy machine may add to this.
    assert took < 2
    await writer.aclose()
    await database.aclose()


async def test_a_task_that_outlives_its_call_has_none_of_its_time() -> None:
    registry = CallRegistry(1)
    storage_time.begin_call()
    assert storage_time.time_of_call() is not None

    async def look() -> StorageTime | None:
        await asyncio.sleep(0)
        return storage_time.time_of_call()

    assert await registry.spawn(look()) is None


async def test_a_writing_thread_that_breaks_leaves_nobody_without_an_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(database, 60.0)

    def broken(*_: object, **__: object) -> list[object]:
        raise RuntimeError("not the database's")

    with monkeypatch.context() as patch:
        patch.setattr("app.storage.writer.group_commit._transact", broken)
        patch.setattr("app.storage.writer.group_commit._failed", broken)
        outcomes = await asyncio.gather(*(writer.submit(Count()) for _ in range(3)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageError}
    assert await writer.submit(Count()) == 1
    await writer.aclose()
