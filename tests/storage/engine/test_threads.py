"""The threads that use the database: how a read that is late is ended, and that no thread is left behind."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection, make_url, text

from app.errors import StorageError
from app.runtime.compute_thread import ComputeThread
from app.storage.engine.database import Database
from app.storage.projects.store import ProjectStore
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from tests.storage.conftest import MakeResponse

_ENDLESS = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(600)",
}


def endless(connection: Connection) -> None:
    connection.execute(text(_ENDLESS[connection.dialect.name]))


def storage_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("storage")]


async def test_a_read_that_is_late_is_ended_and_its_thread_serves_the_next(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=1.0)
    for _ in range(2):
        with pytest.raises(StorageError):
            await database.read(endless)
    async with asyncio.timeout(20):
        while database._readers.busy:
            await asyncio.sleep(0.01)
    await database.ping()
    await database.aclose()


async def test_a_read_that_nobody_waits_for_any_more_is_ended(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=60.0)
    await database.ping()
    reading = asyncio.create_task(database.read(endless))
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(20):
        await database.ping()
    await database.aclose()


async def test_a_read_that_was_given_up_before_it_began_is_never_made(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=60.0)
    release, made = threading.Event(), threading.Event()
    busy = asyncio.create_task(database.read(lambda _: release.wait(20)))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(database.read(lambda _: made.set()))
    await asyncio.sleep(0)
    waiting.cancel()
    release.set()
    assert await busy
    await database.ping()
    assert not made.is_set()
    await database.aclose()


async def test_threads_start_when_they_are_needed_and_none_outlives_the_database(
    database_url: str, make_response: MakeResponse, project: object
) -> None:
    before = len(storage_threads())
    database = Database(database_url, pool_size=3, commit_timeout=5.0)
    assert len(storage_threads()) == before
    for _ in range(5):
        await database.ping()
    assert len(storage_threads()) == before + 1
    await asyncio.gather(*(database.ping() for _ in range(20)))
    assert len(storage_threads()) == before + 3
    writer = Writer(database, 5.0)
    assert await ProjectStore(database).find("nobody") is None
    await ResponseStore(database, writer, ComputeThread()).save(make_response("one"))
    assert len(storage_threads()) == before + 4
    await writer.aclose()
    await database.aclose()
    assert len(storage_threads()) == before


async def test_what_is_still_running_when_the_database_closes_is_waited_for(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=5.0)
    release = threading.Event()
    reading = asyncio.create_task(database.read(lambda _: release.wait(20)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(database.aclose())
    await asyncio.sleep(0.05)
    assert not closing.done()
    release.set()
    assert await reading
    await closing
    assert storage_threads() == []


async def test_a_server_that_answers_nothing_any_more_is_hung_up_on(postgresql_url: str) -> None:
    async with _line_to(postgresql_url) as (url, cut):
        database = Database(url, pool_size=1, commit_timeout=1.0)
        await database.ping()
        cut.set()
        with pytest.raises(StorageError):
            await database.ping()
        async with asyncio.timeout(20):
            while database._readers.busy:
                await asyncio.sleep(0.01)
        cut.clear()
        await database.ping()
        await database.aclose()


@asynccontextmanager
async def _line_to(url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to this server on which, while `cut` is set, nothing arrives: its URL, and `cut`."""
    there = make_url(url)
    port = there.port or 5432
    cut, lines = asyncio.Event(), set[asyncio.Task[None]]()

    async def carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65536):
            if not cut.is_set():
                to.write(chunk)
        to.close()
        await to.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if socket_folder := there.query.get("host"):
            back, forth = await asyncio.open_unix_connection(f"{socket_folder}/.s.PGSQL.{port}")
        else:
            back, forth = await asyncio.open_connection(there.host, port)
        lines.update({asyncio.create_task(carry(reader, forth)), asyncio.create_task(carry(back, writer))})

    # The path of a socket is short.
    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(serve, f"{folder}/.s.PGSQL.{port}"):
            here = there.set(host=None, query={**there.query, "host": folder})
            yield here.render_as_string(hide_password=False), cut
            await asyncio.gather(*lines, return_exceptions=True)
