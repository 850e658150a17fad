"""Migrations: up, down, up, no drift; one of many does the work; nothing is made anew over what cannot be read."""

import fcntl
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import OperationalError
from sqlalchemy import inspect, text

from app.errors import ConfigurationError, StorageError
from app.storage.engine.database import Database
from app.storage.engine.location import DatabaseLocation
from app.storage.schema_migration import (
    SchemaChange,
    _may_pass,
    is_current,
    migrate,
    needs_migration,
    open_for_migration,
)
from app.storage.tables import REVISION, metadata, responses
from app.storage.turns.insert_view import ITEM_IDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/antiphon.db"
    url: str = request.getfixturevalue("empty_postgresql_url")
    return url


def execute(url: str, statement: str) -> None:
    with open_for_migration(url) as connection:
        connection.execute(text(statement))


def alembic(url: str) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def test_the_code_names_the_newest_migration() -> None:
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert scripts.get_heads() == [REVISION]
    assert all(len(script.revision) == 4 and script.revision.isdigit() for script in scripts.walk_revisions())


def test_an_empty_database_is_migrated_once(empty_url: str) -> None:
    assert needs_migration(empty_url)
    assert migrate(empty_url) == SchemaChange(None, REVISION)
    assert not needs_migration(empty_url)
    assert migrate(empty_url) == SchemaChange(REVISION, REVISION)


def test_asking_creates_no_file(tmp_path: Path) -> None:
    assert needs_migration(f"sqlite:///{tmp_path}/data/antiphon.db")
    assert list(tmp_path.iterdir()) == []


def test_the_migrations_make_what_the_tables_say(database_url: str) -> None:
    with open_for_migration(database_url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_view_turns_has_the_columns_of_responses(database_url: str) -> None:
    with open_for_migration(database_url) as connection:
        columns = [column["name"] for column in inspect(connection).get_columns("turns")]
    assert sorted(columns) == sorted({*responses.columns.keys(), ITEM_IDS} - {"key"})


def test_migrations_go_up_and_down_and_up(empty_url: str) -> None:
    config = alembic(empty_url)
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    with open_for_migration(empty_url) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert inspect(connection).get_view_names() == []
    command.upgrade(config, "head")
    command.check(config)


def test_of_several_processes_one_migrates(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        changes = list(pool.map(migrate, [empty_url] * 4))
    assert [change.before for change in changes].count(None) == 1
    assert {change.after for change in changes} == {REVISION}


def test_a_failed_migration_leaves_nothing_behind(empty_url: str) -> None:
    execute(empty_url, "CREATE TABLE items (in_the_way INTEGER)")
    with pytest.raises(ConfigurationError, match=r"left unchanged"):
        migrate(empty_url)
    with open_for_migration(empty_url) as connection:
        assert inspect(connection).get_table_names() == ["items"]


def test_a_newer_database_is_refused_by_name(database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    for attempt in (migrate, needs_migration):
        with pytest.raises(ConfigurationError, match="schema 9999, newer than this version"):
            attempt(database_url)


async def test_a_schema_is_current_unless_it_is_older_or_missing(database_url: str, database: Database) -> None:
    assert await is_current(database)
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert await is_current(database)
    execute(database_url, "UPDATE alembic_version SET version_num = '0000'")
    assert not await is_current(database)
    execute(database_url, "DELETE FROM alembic_version")
    assert not await is_current(database)
    execute(database_url, "DROP TABLE alembic_version")
    assert not await is_current(database)


async def test_nothing_is_known_of_a_database_that_cannot_answer(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.db"
    file.write_bytes(b"not a database " * 1000)
    for url in ("postgresql://127.0.0.1:9/none", f"sqlite:///{file}"):
        database = Database(url, pool_size=1, commit_timeout=2.0)
        with pytest.raises(StorageError):
            await is_current(database)
        await database.aclose()


async def test_a_schema_that_cannot_be_read_now_is_a_storage_error(postgresql_url: str) -> None:
    separator = "&" if "?" in postgresql_url else "?"
    database = Database(f"{postgresql_url}{separator}options=-clock_timeout%3D100", pool_size=1, commit_timeout=5.0)
    with open_for_migration(postgresql_url) as connection:
        connection.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StorageError):
            await is_current(database)
    assert await is_current(database)
    await database.aclose()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "folder"])
def test_a_file_that_is_no_database_is_named_and_left_alone(sqlite_url: str, damage: str) -> None:
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(b"not a database " * 1000 if damage == "garbage" else file.read_bytes()[:5000])
    before = None if damage == "folder" else file.read_bytes()
    for attempt in (migrate, needs_migration):
        with pytest.raises(ConfigurationError, match=r"antiphon\.db cannot be used as it is .*restore a backup"):
            attempt(sqlite_url)
    assert before is None or file.read_bytes() == before


def test_a_server_that_is_down_is_no_configuration_error() -> None:
    with pytest.raises(StorageError, match=r"none on 127\.0\.0\.1 cannot be reached") as raised:
        migrate("postgresql://someone:hunter2@127.0.0.1:9/none")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "said",
    [
        "connection to server at 127.0.0.1 failed: Connection refused",
        "could not translate host name to address: Name or service not known",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        "connection timeout expired",
    ],
)
def test_what_may_pass_is_waited_for(said: str) -> None:
    assert _may_pass(OperationalError(said), DatabaseLocation.parse("postgresql://server/db"))


@pytest.mark.parametrize(
    "said",
    [
        'FATAL:  password authentication failed for user "someone"',
        "fe_sendauth: no password supplied",
        'FATAL:  role "someone" does not exist',
        'FATAL:  database "none" does not exist',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
        "FATAL:  no such database: none",
        "server does not support SSL, but SSL was required",
        # One of a name's addresses is refused, another answers.
        'connection refused\n- host: 127.0.0.1: FATAL:  password authentication failed for user "someone"',
    ],
)
def test_what_somebody_has_to_change_is_not_waited_for(said: str) -> None:
    assert not _may_pass(OperationalError(said), DatabaseLocation.parse("postgresql://server/db"))


def test_a_locked_file_is_waited_for(sqlite_url: str) -> None:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert _may_pass(error, DatabaseLocation.parse(sqlite_url))
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    assert not _may_pass(error, DatabaseLocation.parse(sqlite_url))


def test_another_processes_sqlite_migration_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with (tmp_path / "antiphon.db.migrate-lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="Another process is migrating"):
            migrate(f"sqlite:///{tmp_path}/antiphon.db", lock_wait=0.1)


def test_another_processes_postgres_migration_is_waited_for_only_so_long(empty_postgresql_url: str) -> None:
    with open_for_migration(empty_postgresql_url) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": 0x616E7469})
        with pytest.raises(StorageError, match="busy"):
            migrate(empty_postgresql_url, lock_wait=0.1)
    assert migrate(empty_postgresql_url).before is None
