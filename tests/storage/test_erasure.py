"""What was deleted is not left anywhere on the disk."""

import sqlite3
from contextlib import closing
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


async def test_deleted_content_is_nowhere_in_sqlites_files(
    sqlite_url: str, tmp_path: Path, make_response: MakeResponse
) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
    store = ResponseStore(database, writer, Offload())
    content = b"very private words" * 1000
    await store.save(make_response("one", body=content, items=(Item("i", "message", False, content),)))

    def files_with_content() -> list[str]:
        return [file.name for file in tmp_path.iterdir() if b"very private words" in file.read_bytes()]

    assert files_with_content() != []
    assert await store.delete("proj_a", "resp_one", NOW)
    assert files_with_content() == []
    await writer.aclose()
    await database.aclose()


async def test_what_was_deleted_while_a_reader_had_the_log_is_forgotten_after_it(
    sqlite_url: str, tmp_path: Path, make_response: MakeResponse
) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
    store = ResponseStore(database, writer, Offload())
    await store.save(make_response("one", body=b"very private words" * 1000))

    def files_with_content() -> list[str]:
        return [file.name for file in tmp_path.iterdir() if b"very private words" in file.read_bytes()]

    # A backup, or somebody's shell.
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM projects").fetchall()
        assert await store.delete("proj_a", "resp_one", NOW)
        assert files_with_content() != []
        with pytest.raises(StorageError, match="A reader from outside"):
            await database.finish_erasure()
    await database.finish_erasure()
    assert files_with_content() == []
    await writer.aclose()
    await database.aclose()


async def test_what_a_sweep_removed_is_forgotten_by_the_duty_for_it(
    sqlite_url: str, tmp_path: Path, make_response: MakeResponse
) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
    store = ResponseStore(database, writer, Offload())
    for number in range(3):
        await store.save(make_response(f"r{number}", body=b"very private words" * 1000, expires_at=NOW))
    assert await ResponseExpiry(database, writer).remove(NOW, batch=1) == 3
    await database.finish_erasure()
    assert [file.name for file in tmp_path.iterdir() if b"very private words" in file.read_bytes()] == []
    await writer.aclose()
    await database.aclose()


async def test_what_a_killed_process_left_in_the_log_is_forgotten_at_the_next_start(
    sqlite_url: str, tmp_path: Path, make_response: MakeResponse
) -> None:
    killed = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(killed, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
    store = ResponseStore(killed, writer, Offload())
    await store.save(make_response("one", body=b"very private words" * 1000, expires_at=NOW))
    assert await ResponseExpiry(killed, writer).remove(NOW) == 1
    next_one = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    await next_one.lengthen_log()
    assert [file.name for file in tmp_path.iterdir() if b"very private words" in file.read_bytes()] == []
    await next_one.aclose()
    await writer.aclose()
    await killed.aclose()
