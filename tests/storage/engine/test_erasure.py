"""What was deleted is not left anywhere on the disk."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from app.errors import StorageError
from app.runtime.compute_thread import ComputeThread
from app.state.records import Item, Project
from app.storage.engine.database import Database
from app.storage.projects.store import CreateProject
from app.storage.responses.expiry import ResponseExpiry
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW, MakeResponse

_PRIVATE = b"very private words" * 1000


class Serving:
    """The database of the process that serves, with a project, and what is left of the private words on the disk."""

    def __init__(self, database: Database, writer: Writer, folder: Path) -> None:
        self.database = database
        self.expiry = ResponseExpiry(database, writer)
        self.store = ResponseStore(database, writer, ComputeThread())
        self._folder = folder

    def left(self) -> list[str]:
        """The names of the files that have them."""
        return [file.name for file in self._folder.iterdir() if b"very private words" in file.read_bytes()]


@asynccontextmanager
async def _opened(url: str, *, is_guest: bool = False) -> AsyncIterator[tuple[Database, Writer]]:
    database = Database(url, pool_size=1, commit_timeout=5.0, is_guest=is_guest)
    writer = Writer(database, 5.0)
    yield database, writer
    await writer.aclose()
    await database.aclose()


@pytest.fixture
async def serving(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    async with _opened(sqlite_url) as (database, writer):
        await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
        yield Serving(database, writer, tmp_path)


async def test_deleted_content_is_nowhere_in_sqlites_files(serving: Serving, make_response: MakeResponse) -> None:
    await serving.store.save(make_response("one", body=_PRIVATE, items=(Item("i", "message", False, _PRIVATE),)))
    assert serving.left() != []
    assert await serving.store.delete("proj_a", "resp_one", NOW)
    assert serving.left() == []


async def test_what_was_deleted_while_a_reader_had_the_log_is_forgotten_after_it(
    serving: Serving, sqlite_url: str, make_response: MakeResponse
) -> None:
    await serving.store.save(make_response("one", body=_PRIVATE))
    # A backup, or somebody's shell.
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM projects").fetchall()
        assert await serving.store.delete("proj_a", "resp_one", NOW)
        assert serving.left() != []
        with pytest.raises(StorageError, match="A reader from outside"):
            await serving.database.finish_erasure()
    await serving.database.finish_erasure()
    assert serving.left() == []


async def test_what_a_sweep_removed_is_forgotten_by_the_duty_for_it(
    serving: Serving, make_response: MakeResponse
) -> None:
    for number in range(3):
        await serving.store.save(make_response(f"r{number}", body=_PRIVATE, expires_at=NOW))
    assert await serving.expiry.remove(NOW, batch=1) == 3
    await serving.database.finish_erasure()
    assert serving.left() == []


async def test_what_a_command_removed_is_forgotten_by_the_process_that_serves(
    serving: Serving, sqlite_url: str, make_response: MakeResponse
) -> None:
    await serving.database.finish_erasure()
    await serving.store.save(make_response("one", body=_PRIVATE))
    async with _opened(sqlite_url, is_guest=True) as (command, writer):
        assert await ResponseStore(command, writer, ComputeThread()).delete("proj_a", "resp_one", NOW)
        await command.finish_erasure()
        assert serving.left() != []
    await serving.database.finish_erasure()
    assert serving.left() == []


async def test_what_a_killed_process_left_in_the_log_is_forgotten_at_the_next_start(
    serving: Serving, sqlite_url: str, make_response: MakeResponse
) -> None:
    await serving.store.save(make_response("one", body=_PRIVATE, expires_at=NOW))
    assert await serving.expiry.remove(NOW) == 1
    async with _opened(sqlite_url) as (next_one, _):
        await next_one.lengthen_log()
        assert serving.left() == []
