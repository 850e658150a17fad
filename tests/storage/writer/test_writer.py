"""Grouping, isolation and failure of writes, on every database."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.errors import StorageError
from app.storage.engine.database import Database
from app.storage.responses.store import DeleteResponse, ResponseStore, SaveResponse
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW, Count, MakeResponse


@pytest.fixture
async def transactions(database: Database) -> list[str]:
    """The ends of the writing connection's transactions, as its driver makes them happen."""
    ends: list[str] = []

    def watch(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            driver.set_trace_callback(
                lambda text: ends.append(text.lower()) if text in {"COMMIT", "ROLLBACK"} else None
            )
            return

        def watched(name: str, end: Callable[[], None]) -> None:
            if driver.info.transaction_status != TransactionStatus.IDLE:
                ends.append(name)
            end()

        for name in ("commit", "rollback"):
            setattr(driver, name, partial(watched, name, getattr(driver, name)))

    await database.write(lambda session: session.write(watch))
    ends.clear()
    return ends


@asynccontextmanager
async def held_lock(url: str) -> AsyncIterator[None]:
    """Another process's write transaction, which nobody's writes get past."""
    other = Database(url, pool_size=1, commit_timeout=5.0)
    lock = "SELECT 1" if url.startswith("sqlite") else "LOCK TABLE responses, projects, meta IN EXCLUSIVE MODE"
    held, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        connection.execute(text(lock))
        loop.call_soon_threadsafe(held.set)
        release.wait(20)

    holding = other.write(lambda session: session.write(hold))
    await held.wait()
    yield
    release.set()
    await holding
    await other.aclose()


async def test_what_is_waiting_is_committed_together(writer: Writer, transactions: list[str]) -> None:
    assert await asyncio.gather(*(writer.submit(Count()) for _ in range(100))) == [100] * 100
    assert transactions == ["commit"]


async def test_a_group_has_a_largest_size(writer: Writer, transactions: list[str]) -> None:
    sizes = await asyncio.gather(*(writer.submit(Count()) for _ in range(300)))
    assert sorted(set(sizes)) == [44, 256]
    assert transactions == ["commit", "commit"]


async def test_writes_of_different_kinds_share_a_transaction_in_the_order_of_their_ranks(
    writer: Writer, responses: ResponseStore, transactions: list[str], make_response: MakeResponse
) -> None:
    await responses.save(make_response("one"))
    transactions.clear()
    outcomes = await asyncio.gather(
        writer.submit(SaveResponse.of(make_response("two"))),
        writer.submit(SaveResponse.of(make_response("one"))),
        writer.submit(DeleteResponse("proj_a", "resp_one", NOW)),
    )
    assert list(outcomes) == [None, None, True]
    assert transactions == ["commit"]
    assert await responses.read_body("proj_a", "resp_one", NOW) is not None


async def test_a_cancelled_callers_write_is_still_committed(
    writer: Writer, responses: ResponseStore, make_response: MakeResponse
) -> None:
    caller = asyncio.create_task(responses.save(make_response("kept")))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await writer.submit(Count())
    assert await responses.read_body("proj_a", "resp_kept", NOW) is not None


async def test_a_bad_write_fails_only_its_own_caller(responses: ResponseStore, make_response: MakeResponse) -> None:
    timeless = replace(make_response("timeless"), created_at=None)  # type: ignore[arg-type]
    with capture_logs() as logs:
        outcomes = await asyncio.gather(
            responses.save(make_response("a")),
            responses.save(make_response("orphan", project_id="proj_none")),
            responses.save(make_response("b")),
            responses.save(timeless),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [type(None), StorageError, type(None), StorageError]
    assert await responses.read_body("proj_a", "resp_b", NOW) is not None
    assert await responses.read_body("proj_a", "resp_timeless", NOW) is None
    failure = outcomes[1]
    assert isinstance(failure, StorageError)
    assert (failure.status, failure.code) == (503, "storage_unavailable")
    assert failure.__cause__ is not None
    assert "INSERT" not in failure.message
    assert [log["count"] for log in logs] == [1, 1]
    assert "secret" not in str(logs)


async def test_an_error_that_is_not_the_databases_fails_its_caller_and_the_task_lives(writer: Writer) -> None:
    outcomes = await asyncio.gather(
        writer.submit(Count(ZeroDivisionError("mine"))), writer.submit(Count()), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StorageError, int]
    assert await writer.submit(Count()) == 1


async def test_what_a_write_refuses_itself_its_caller_is_told_in_its_words(writer: Writer) -> None:
    refusal = StorageError("Not twice.", code="duplicate_response")
    with capture_logs() as logs:
        outcomes = await asyncio.gather(
            *(writer.submit(Count(refusal if number == 1 else None)) for number in range(3)), return_exceptions=True
        )
    assert outcomes == [1, refusal, 1]
    assert logs == []


async def test_an_outage_fails_the_whole_group_at_once(writer: Writer, transactions: list[str]) -> None:
    down = OperationalError("", None, ConnectionError("gone"))
    with capture_logs() as logs:
        outcomes = await asyncio.gather(
            *(writer.submit(Count(down if number == 7 else None)) for number in range(20)), return_exceptions=True
        )
    assert {type(outcome) for outcome in outcomes} == {StorageError}
    assert transactions == ["rollback"]
    assert [(log["event"], log["count"], log["error"]) for log in logs] == [("writes failed", 20, "OperationalError")]


async def test_an_outage_in_a_part_of_a_group_fails_the_rest_at_once(writer: Writer, transactions: list[str]) -> None:
    down = OperationalError("", None, ConnectionError("gone"))
    outcomes = await asyncio.gather(
        writer.submit(Count(ValueError("bad"))),
        writer.submit(Count()),
        *(writer.submit(Count(down)) for _ in range(20)),
        return_exceptions=True,
    )
    assert outcomes[1] == 1
    assert sum(isinstance(outcome, StorageError) for outcome in outcomes) == 21
    # The bad one is looked for in halves; then the database is found to be down, by one question for all the rest.
    assert transactions == [*["rollback"] * 5, "commit", "rollback"]


async def test_a_lock_held_elsewhere_delays_a_write_that_then_succeeds(
    database_url: str, responses: ResponseStore, make_response: MakeResponse
) -> None:
    async with held_lock(database_url):
        saving = asyncio.create_task(responses.save(make_response("late")))
        await asyncio.wait([saving], timeout=0.3)
        assert not saving.done()
        # Reads go on meanwhile.
        assert await responses.read_body("proj_a", "resp_late", NOW) is None
    await saving
    assert await responses.read_body("proj_a", "resp_late", NOW) is not None


async def test_a_write_that_is_late_is_a_storage_error_and_is_not_committed_later(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    impatient = Writer(database, 1.0)
    release = threading.Event()
    database.write(lambda _: release.wait(20))
    with pytest.raises(StorageError, match="commit in time"):
        await impatient.submit(SaveResponse.of(make_response("late")))
    release.set()
    await database.write(lambda _: None)
    assert await impatient.submit(Count()) == 1
    assert await responses.read_body("proj_a", "resp_late", NOW) is None
    await impatient.aclose()


async def test_a_lock_that_outlasts_the_wait_fails_the_group_and_the_next_write_succeeds(
    database_url: str, make_response: MakeResponse, responses: ResponseStore
) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=1.0)
    writer = Writer(database, 3.0)
    async with held_lock(database_url):
        outcomes = await asyncio.gather(
            *(writer.submit(SaveResponse.of(make_response(f"n{number}"))) for number in range(3)),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {StorageError}
    await writer.submit(SaveResponse.of(make_response("next")))
    await writer.aclose()
    await database.aclose()


async def test_a_full_queue_refuses_at_once(database_url: str, database: Database) -> None:
    writer = Writer(database, 5.0, capacity=3)
    release = threading.Event()
    database.write(lambda _: release.wait(20))
    busy = asyncio.create_task(writer.submit(Count()))
    for _ in range(3):
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(writer.submit(Count())) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="more writes"):
        await writer.submit(Count())
    release.set()
    assert await busy == 1
    assert await asyncio.gather(*waiting) == [3, 3, 3]
    await writer.aclose()


async def test_closing_commits_what_waits_and_refuses_the_rest(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    writer = Writer(database, 5.0)
    saving = asyncio.create_task(writer.submit(SaveResponse.of(make_response("last"))))
    await asyncio.sleep(0)
    await writer.aclose()
    await saving
    assert await responses.read_body("proj_a", "resp_last", NOW) is not None
    with pytest.raises(StorageError):
        await writer.submit(Count())
    await Writer(database, 5.0).aclose()


async def test_closing_does_not_wait_for_a_database_that_hangs(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=0.5)
    writer = Writer(database, 0.2)
    async with held_lock(database_url):
        saving = asyncio.create_task(writer.submit(DeleteResponse("proj_a", "resp_none", NOW)))
        await asyncio.sleep(0.05)
        await writer.aclose()
        with pytest.raises(StorageError):
            await saving
    await database.aclose()


async def test_a_failed_write_whose_caller_left_disturbs_nobody(database: Database) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    writer = Writer(database, 5.0)
    caller = asyncio.create_task(writer.submit(Count(ValueError("bad"))))
    await asyncio.sleep(0)
    caller.cancel()
    await writer.aclose()
    del writer
    assert caller.cancelled() or caller.cancelling()
    assert complaints == []
