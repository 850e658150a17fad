"""Migrate the schema under a lock, and compare its version with the code's."""

import asyncio
import fcntl
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError

import app
from app.errors import ConfigurationError, StorageError
from app.storage.engine.database import Database, is_outage
from app.storage.engine.location import DatabaseLocation
from app.storage.idempotency import tables as _idempotency  # noqa: F401 - known to the metadata, here and below
from app.storage.limits import tables as _limits  # noqa: F401 - which migrations are compared with
from app.storage.tables import REVISION
from app.storage.upstreams import tables as _upstreams  # noqa: F401 - as above
from app.storage.usage import tables as _usage  # noqa: F401 - as above

# Any number will do, as long as every version of Antiphon takes the same.
_ADVISORY_LOCK = 0x616E7469
# Alembic's own table; it holds one row, as our history has no branches.
_VERSION = text("SELECT version_num FROM alembic_version")
# Seconds to connect to a server that does not answer at all.
_CONNECT_SECONDS = 5
# SQLite's BUSY, LOCKED, IOERR and FULL pass by themselves; a file that is read-only or no database does not.
_PASSING = frozenset({5, 6, 10, 13})
# The errors of a server that refuses the user or has no such database. A failed connection has no SQLSTATE.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|not permitted to log in|no such (user|database)"
    r'|(role|database) ".*" does not exist|permission denied|SSL was required|SSL negotiation|certificate'
)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """Report the revisions before (None: an empty database) and after; equal when there was nothing to do."""

    before: str | None
    after: str


def migrate(url: str, lock_wait: float = 30.0) -> SchemaChange:
    """Bring the database to this code's schema; of several processes that try, one does.

    Blocking. `lock_wait` is in seconds. Raises ConfigurationError for a database that is newer than the code or cannot
    be read, and StorageError for one that cannot be reached now. Nothing is ever created anew over an existing one.
    """
    location = DatabaseLocation.parse(url)
    location.prepare()
    engine = _engine(location)
    with _explained(location):
        # Without the lock first: the replicas of a running service start without waiting for each other.
        with engine.connect() as connection:
            found = _revision(connection, location)
        if found == REVISION:
            return SchemaChange(found, REVISION)
        with _alone(location, lock_wait), engine.begin() as connection:
            if location.file is None:
                _lock_postgres(connection, lock_wait)
            found = _revision(connection, location)
            if found != REVISION:
                _upgrade(connection)
    return SchemaChange(found, REVISION)


async def migrate_aside(url: str) -> SchemaChange:
    """Run `migrate` in a daemon thread, for which a process that has to end does not wait. Raises as `migrate` does."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[SchemaChange] = loop.create_future()

    def resolve(change: SchemaChange | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if change is None:
            outcome.set_exception(error or RuntimeError("no schema"))
        else:
            outcome.set_result(change)

    def run() -> None:
        change, error = None, None
        try:
            change = migrate(url)
        except Exception as caught:  # noqa: BLE001 - it is the waiter's
            error = caught
        # A loop that is closed has nobody waiting in it.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve, change, error)

    Thread(target=run, name="migration", daemon=True).start()
    return await outcome


def needs_migration(url: str) -> bool:
    """Return whether `migrate` would change something; change nothing. Raises as `migrate` does."""
    location = DatabaseLocation.parse(url)
    if location.file is not None and not location.file.exists():
        return True
    with _explained(location), _engine(location).connect() as connection:
        return _revision(connection, location) != REVISION


def check_current(url: str) -> None:
    """Raise ConfigurationError, with what to do, unless the database has this code's schema. Changes nothing."""
    location = DatabaseLocation.parse(url)
    found = None
    with _explained(location):
        if location.file is None or location.file.exists():
            with _engine(location).connect() as connection:
                found = _revision(connection, location)
    if found is None:
        raise ConfigurationError(
            f"There is no gateway's database at {location.name} yet: the first `antiphon serve` makes one."
        )
    if found != REVISION:
        raise ConfigurationError(
            f"The database {location.name} has schema {found}, older than this version of Antiphon needs ({REVISION}):"
            " run `antiphon migrate`, or start this version with `antiphon serve`."
        )


async def is_current(database: Database) -> bool:
    """Return whether this code can serve from the schema: also from a newer one, during a rolling upgrade."""
    revision = await database.read(_kept_revision)
    return revision is not None and revision >= REVISION


def _kept_revision(connection: Connection) -> str | None:
    try:
        revision: str | None = connection.scalar(_VERSION)
    except SQLAlchemyError as error:
        if is_outage(error):
            raise
        return None
    return revision


@contextmanager
def open_for_migration(url: str) -> Iterator[Connection]:
    """Open a connection in a transaction, for the alembic command of a developer."""
    location = DatabaseLocation.parse(url)
    location.prepare()
    with _engine(location).begin() as connection:
        yield connection


def _engine(location: DatabaseLocation) -> Engine:
    options = {} if location.file is not None else {"connect_timeout": _CONNECT_SECONDS}
    engine = create_engine(location.url, poolclass=NullPool, hide_parameters=True, connect_args=options)
    if location.file is not None:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001 (SQLAlchemy's signature)
    # Left alone, the driver commits before each table is made. Foreign keys are off (SQLite's default): a batch
    # migration drops the old table, and that would cascade.
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout=5000")
    # Only the serving process copies the write-ahead log back into the file.
    connection.execute("PRAGMA wal_autocheckpoint=0")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _upgrade(connection: Connection) -> None:
    # Imported for a migration only: a start on a current schema, the usual one, does without its 50 modules.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    folder = Path(app.__file__).parent.parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)


def _revision(connection: Connection, location: DatabaseLocation) -> str | None:
    # Ask before reading the table: a statement that fails would end PostgreSQL's transaction.
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(_VERSION)
    if revision is not None and revision > REVISION:
        raise ConfigurationError(
            f"The database {location.name} has schema {revision}, newer than this version of Antiphon knows"
            f" ({REVISION}). Start the newer version again, or restore the backup made before the upgrade."
        )
    return revision


@contextmanager
def _alone(location: DatabaseLocation, lock_wait: float) -> Iterator[None]:
    """Lock a SQLite file against other processes of this machine, also while it is switched to WAL mode."""
    if location.file is None:
        yield
        return
    path = location.file.with_name(f"{location.file.name}.migrate-lock")
    path.touch(mode=0o600)
    deadline = time.monotonic() + lock_wait
    with path.open("r+b") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StorageError(f"Another process is migrating {location.name}; gave up waiting.") from error
                time.sleep(0.05)
        with closing(sqlite3.connect(location.file)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        yield


def _lock_postgres(connection: Connection, lock_wait: float) -> None:
    # A lock of the transaction, not of the session: pgbouncer would leave the latter behind on its server connection.
    limit = text("SELECT set_config('lock_timeout', :limit, true)")
    connection.execute(limit, {"limit": f"{int(lock_wait * 1000)}ms"})
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    # From here on others queue behind a table's lock that we wait for, so we do not wait long.
    connection.execute(limit, {"limit": "2s"})


@contextmanager
def _explained(location: DatabaseLocation) -> Iterator[None]:
    """Replace the driver's error by one that names the database and says what to do."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        if _may_pass(error, location):
            raise StorageError(f"The database {location.name} cannot be reached or is busy.") from error
        raise ConfigurationError(
            f"The database {location.name} cannot be used as it is ({reason}). It was left unchanged:"
            " repair it, restore a backup, or name another database."
        ) from error


def _may_pass(error: Exception, location: DatabaseLocation) -> bool:
    """Return whether the error may go away by itself, without an operator's help."""
    cause = getattr(error, "orig", error)
    if location.file is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _PASSING
    return is_outage(error) and _REFUSED.search(str(cause)) is None
