"""Connections: how SQLite's are prepared, and what failures of both databases become."""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Select, literal_column, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from app.errors import ConfigurationError, StorageError
from app.storage.engine.database import Database, is_outage
from app.storage.engine.location import DatabaseLocation
from app.storage.engine.statements import Query


async def read_value(database: Database, query: str) -> object:
    return await database.read(lambda connection: connection.scalar(text(query)))


async def write(database: Database, *statements: str) -> list[Any]:
    """Run these in one transaction; the first value of each."""
    return await database.write(
        lambda session: session.write(
            lambda connection: [
                result.scalar() if (result := connection.execute(text(statement))).returns_rows else None
                for statement in statements
            ]
        )
    )


async def erase_log(database: Database) -> None:
    await database.write(lambda session: session.erase_log())


@contextmanager
def held_readers(database: Database, count: int) -> Iterator[None]:
    """As many threads that read, each amid a read."""
    with ExitStack() as held:
        for _ in range(count):
            release = Event()
            held.callback(release.set)
            database._readers.submit(lambda _, release=release: release.wait(20))  # type: ignore[misc]
        yield


async def test_a_database_that_answers_passes_the_ping(database: Database) -> None:
    await database.ping()


@pytest.mark.parametrize(
    "url",
    ["postgresql://someone:hunter2@127.0.0.1:9/none", "postgres://127.0.0.1:9/none?connect_timeout=1"],
)
async def test_a_database_that_is_down_is_one_clear_sentence(url: str) -> None:
    database = Database(url, pool_size=1, commit_timeout=2.0)
    with pytest.raises(StorageError) as raised:
        await database.ping()
    assert raised.value.message == "The database could not answer. Try again in a moment."
    assert isinstance(raised.value.__cause__, SQLAlchemyError)
    await erase_log(database)
    await database.lengthen_log()
    await database.aclose()


async def test_a_read_that_is_late_is_a_storage_error_and_the_next_succeeds(postgresql_url: str) -> None:
    database = Database(postgresql_url, pool_size=1, commit_timeout=1.0)
    with pytest.raises(StorageError):
        await read_value(database, "SELECT pg_sleep(30)")
    await database.ping()
    await database.aclose()


async def test_a_wrong_query_is_a_storage_error_that_quotes_nothing(database: Database) -> None:
    with pytest.raises(StorageError) as raised:
        await read_value(database, "SELECT 'secret' FROM nowhere")
    assert "secret" not in raised.value.message


async def test_readers_wait_for_each_other_only_so_long(database_url: str) -> None:
    database = Database(database_url, pool_size=1, commit_timeout=1.5)
    with held_readers(database, 1), pytest.raises(StorageError):
        await database.ping()
    await database.ping()
    await database.aclose()


@pytest.mark.parametrize(
    "statement", [select(literal_column("1")), Query(select(literal_column("1")))], ids=["sqlalchemy", "driver"]
)
async def test_a_server_that_dropped_its_connections_is_reached_again(
    postgres_url: str, postgresql_url: str, statement: Select[Any] | Query
) -> None:
    database = Database(postgresql_url, pool_size=2, commit_timeout=5.0)
    other = Database(postgresql_url, pool_size=1, commit_timeout=5.0)
    await database.ping()
    await write(database, "SELECT 1")
    await read_value(
        other,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    if isinstance(statement, Query):
        assert await database.read(lambda connection: statement.fetch(connection, {})) == [(1,)]
    else:
        assert await database.read(lambda connection: connection.scalar(statement)) == 1
    assert await write(database, "SELECT 1") == [1]
    await other.aclose()
    await database.aclose()


def _end_by_sqlalchemy(connection: Connection) -> None:
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def _end_by_the_driver(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def _end_before_the_commit(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    with psycopg.connect(driver.info.dsn) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (driver.info.backend_pid,))


@pytest.mark.parametrize("end", [_end_by_sqlalchemy, _end_by_the_driver, _end_before_the_commit])
async def test_a_transaction_that_lost_its_connection_fails_and_is_not_repeated(
    postgresql_url: str, end: Callable[[Connection], None]
) -> None:
    database = Database(postgresql_url, pool_size=1, commit_timeout=5.0)
    runs: list[Connection] = []

    def work(connection: Connection) -> None:
        runs.append(connection)
        end(connection)

    await write(database, "SELECT 1")
    with pytest.raises((SQLAlchemyError, psycopg.Error)) as raised:
        await database.write(lambda session: session.write(work))
    assert is_outage(raised.value)
    assert len(runs) == 1
    assert await write(database, "SELECT 1") == [1]
    await database.aclose()


async def test_postgres_bounds_a_writing_transaction_and_nothing_else(postgresql_url: str) -> None:
    database = Database(postgresql_url, pool_size=1, commit_timeout=1.5)
    shown = "SELECT current_setting('statement_timeout') || current_setting('idle_in_transaction_session_timeout')"
    assert await write(database, shown) == ["1500ms1500ms"]
    assert await read_value(database, shown) == "00"
    await database.aclose()


async def test_sqlite_readers_cannot_write_and_never_checkpoint(sqlite_url: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    assert await read_value(database, "PRAGMA wal_autocheckpoint") == 0
    with pytest.raises(StorageError):
        await read_value(database, "DELETE FROM meta")
    await database.aclose()


async def test_sqlites_writer_is_durable(sqlite_url: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    values = await write(database, *(f"PRAGMA {name}" for name in names))
    assert values == ["wal", 2, 1, 1, 100]
    await database.aclose()


async def test_sqlite_writes_no_temporary_files(sqlite_url: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    in_memory = 2
    assert await read_value(database, "PRAGMA temp_store") == in_memory
    assert await write(database, "PRAGMA temp_store") == [in_memory]
    await database.aclose()


async def test_sqlites_log_is_emptied_even_when_a_reader_holds_it(sqlite_url: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as backup:
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM meta").fetchall()
        await write(database, "INSERT INTO meta VALUES ('a', 'b')")
        await erase_log(database)
    assert await read_value(database, "SELECT value FROM meta") == "b"
    await database.aclose()


async def test_a_log_that_was_lengthened_holds_the_commits_that_follow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.engine.sqlite._LOG_PAGES", 4000)
    await database.lengthen_log()
    log = Path(f"{database.writer.url.database}-wal")
    length = log.stat().st_size if log.exists() else 0
    assert length == 0 or length > 10_000_000
    for _ in range(20):
        await write(database, "INSERT INTO meta VALUES ('a', 'b')")
        assert await read_value(database, "SELECT value FROM meta WHERE name = 'a'") == "b"
        await write(database, "DELETE FROM meta WHERE name = 'a'")
    if length:
        assert log.stat().st_size == length
        assert await read_value(database, "SELECT count(*) FROM sqlite_master WHERE name = 'padding'") == 0
        assert await read_value(database, "PRAGMA integrity_check") == "ok"


async def test_a_database_that_cannot_be_written_to_keeps_the_log_that_it_has(sqlite_url: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=1.5)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await database.lengthen_log()
        other.execute("ROLLBACK")
    await write(database, "INSERT INTO meta VALUES ('a', 'b')")
    assert await read_value(database, "SELECT value FROM meta") == "b"
    await database.aclose()


async def test_a_new_sqlite_file_and_its_folder_are_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "data" / "antiphon.db"
    database = Database(f"sqlite:///{file}", pool_size=1, commit_timeout=5.0)
    await write(database, "CREATE TABLE t (a)")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (file.parent, *file.parent.iterdir())}
    assert modes == {"data": 0o700, "antiphon.db": 0o600, "antiphon.db-wal": 0o600, "antiphon.db-shm": 0o600}
    await database.aclose()


def test_a_file_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    with pytest.raises(ConfigurationError, match=r"occupied/antiphon\.db cannot be created"):
        Database(f"sqlite:///{tmp_path}/occupied/antiphon.db", pool_size=1, commit_timeout=1.0)


@pytest.mark.parametrize(
    "url", ["", "no url", "mysql://root:hunter2@db/x", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"]
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        DatabaseLocation.parse(url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgres://u:hunter2@db.example:5432/antiphon?password=hunter2", "antiphon on db.example"),
        ("postgresql+psycopg:///?host=/run/postgresql", "postgres on local socket"),
        ("sqlite+pysqlite:////data/antiphon.db", "/data/antiphon.db"),
    ],
)
def test_a_database_is_called_by_a_name_without_secrets(url: str, name: str) -> None:
    assert DatabaseLocation.parse(url).name == name


def test_a_relative_file_stays_where_it_was_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert DatabaseLocation.parse("sqlite:///data/a.db").file == tmp_path / "data" / "a.db"


def test_errors_from_outside_the_driver_are_no_outage() -> None:
    assert not is_outage(ValueError("bug"))
    assert is_outage(ConnectionError())
    assert is_outage(OperationalError("", None, Exception("connection refused")))
