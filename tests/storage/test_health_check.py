"""What readiness says of the database: whether it takes writes, found out at most once a second."""

import asyncio
import errno
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pytest
from sqlalchemy import Connection, make_url, text

from app.errors import StorageError
from app.storage.engine import sqlite
from app.storage.engine.database import Database
from app.storage.health_check import HealthCheck
from app.storage.writer.writer import Rank, Write, Writer
from tests.conftest import run_sql

_FINE = {"database": "ok", "schema": "ok"}


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow beyond a few pages, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_database_that_answers_and_takes_writes_is_fine(database: Database) -> None:
    assert await HealthCheck(database).report() == _FINE


async def test_a_disk_without_room_is_told_and_so_is_its_end(sqlite_url: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5)
    try:
        check = HealthCheck(database, again_seconds=0)
        assert await check.report() == _FINE
        with no_room():
            assert "data folder" in (await check.report())["database"]
        assert await check.report() == _FINE
    finally:
        await database.aclose()


async def test_a_disk_that_says_that_it_is_full_is_believed(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sqlite, "TemporaryFile", lambda **_: Full())
    database = Database(sqlite_url, pool_size=1, commit_timeout=5)
    try:
        found = await HealthCheck(database).report()
        assert found["database"] == "The data folder cannot be written to (No space left on device)."
    finally:
        await database.aclose()


async def test_a_server_that_is_read_only_is_not_ready(postgresql_url: str) -> None:
    name = make_url(postgresql_url).database
    run_sql(postgresql_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = Database(postgresql_url, pool_size=1, commit_timeout=5)
    try:
        assert "read-only" in (await HealthCheck(database).report())["database"]
    finally:
        await database.aclose()


@dataclass(slots=True)
class Statement(Write[None]):
    rank: ClassVar[Rank] = Rank.META

    sql: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> Sequence[None]:
        for write in writes:
            connection.execute(text(write.sql))
        return [None] * len(writes)


async def test_a_write_that_the_database_could_not_keep_speaks_for_the_next(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = HealthCheck(database, again_seconds=0)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Statement, "apply", fail)
        with pytest.raises(StorageError):
            await writer.submit(Statement("SELECT 1"))
    assert "could not keep" in (await check.report())["database"]
    await writer.submit(Statement("SELECT 1"))
    assert await check.report() == _FINE


async def test_a_write_that_is_at_fault_itself_says_nothing_of_the_database(database: Database, writer: Writer) -> None:
    with pytest.raises(StorageError):
        await writer.submit(Statement("SELECT nonsense FROM nowhere"))
    assert await HealthCheck(database).report() == _FINE


async def test_however_many_ask_it_is_looked_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = database.check_writable

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    monkeypatch.setattr(database, "check_writable", counted)
    check = HealthCheck(database, again_seconds=3600)
    assert await asyncio.gather(*(check.report() for _ in range(50))) == [_FINE] * 50
    assert looks == 1
