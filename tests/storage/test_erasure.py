"""What was deleted is not left anywhere on the disk."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from app.errors import StorageError
from app.offload import Offload
from app.state.records import Item, Project
from app.storage.database import Database
from app.storage.project_store import CreateProject
from app.storage.response_expiry import ResponseExpiry
from app.storage.response_store import ResponseStore
from app.storage.writer import Writer
from tests.storage.conftest import NOW, MakeResponse

_PRIVATE = b"very private words" * 1000


@asynccontextmanager
async def _opened(url: str, *, is_guest: bool = False) -> AsyncIterator[tuple[Database, Writer]]:
    database = Database(url, pool_size=1, commit_timeout=5.0, is_guest=is_guest)
    writer = Writer(database, 5.0)
    yield database, writer
    await writer.aclose()
    await database.aclose()


@pytest.fixture
async def serving(sqlite_url: str) -> AsyncIterator[tuple[Database, Writer]]:
    """The database of the process that serves, with a project."""
    async with _opened(sqlite_url) as (database, writer):
        await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
        yield database, writer


@pytest.fixture
def store(serving: tuple[Database, Writer]) -> ResponseStore:
    return ResponseStore(*serving, Offload())


@pytest.fixture
def left_on_disk(tmp_path: Path) -> Callable[[], Sequence[str]]:
    return lambda: [file.name for file in tmp_path.iterdir() if b"very private words" in file.read_bytes()]


async def test_deleted_content_is_nowhere_in_sqlites_files(
    store: ResponseStore, left_on_disk: Callable[[], Sequence[str]], make_response: MakeResponse
) -> None:
    await store.save(make_response("one", body=_PRIVATE, items=(Item("i", "message", False, _PRIVATE),)))
    assert left_on_disk() != []
    assert await store.delete("proj_a", "resp_one", NOW)
    assert left_on_disk() == []


async def test_what_was_deleted_while_a_reader_had_the_log_is_forgotten_after_it(
    serving: tuple[Database, Writer],
    store: ResponseStore,
    left_on_disk: Callable[[], Sequence[str]],
    sqlite_url: str,
    make_response: MakeResponse,
) -> None:
    database, _ = serving
    await store.save(make_response("one", body=_PRIVATE))
    # A backup, or somebody's shell.
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM projects").fetchall()
        assert await store.delete("proj_a", "resp_one", NOW)
        assert left_on_disk() != []
        with pytest.raises(StorageError, match="A reader from outside"):
            await database.finish_erasure()
    await database.finish_erasure()
    assert left_on_disk() == []


async def test_what_a_sweep_removed_is_forgotten_by_the_duty_for_it(
    serving: tuple[Database, Writer],
    store: ResponseStore,
    left_on_disk: Callable[[], Sequence[str]],
    make_response: MakeResponse,
) -> None:
    database, writer = serving
    for number in range(3):
        await store.save(make_response(f"r{number}", body=_PRIVATE, expires_at=NOW))
    assert await ResponseExpiry(database, writer).remove(NOW, batch=1) == 3
    await database.finish_erasure()
    assert left_on_disk() == []


async def test_what_a_command_removed_is_forgotten_by_the_process_that_serves(
    serving: tuple[Database, Writer],
    store: ResponseStore,
    left_on_disk: Callable[[], Sequence[str]],
    sqlite_url: str,
    make_response: MakeResponse,
) -> None:
    database, _ = serving
    await database.finish_erasure()
    await store.save(make_response("one", body=_PRIVATE))
    async with _opened(sqlite_url, is_guest=True) as (command, writer):
        assert await ResponseStore(command, writer, Offload()).delete("proj_a", "resp_one", NOW)
        await command.finish_erasure()
        assert left_on_disk() != []
    await database.finish_erasure()
    assert left_on_disk() == []


async def test_what_a_killed_process_left_in_the_log_is_forgotten_at_the_next_start(
    serving: tuple[Database, Writer],
    store: ResponseStore,
    left_on_disk: Callable[[], Sequence[str]],
    sqlite_url: str,
    make_response: MakeResponse,
) -> None:
    await store.save(make_response("one", body=_PRIVATE, expires_at=NOW))
    assert await ResponseExpiry(*serving).remove(NOW) == 1
    async with _opened(sqlite_url) as (next_one, _):
        await next_one.lengthen_log()
        assert left_on_disk() == []
