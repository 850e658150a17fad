"""From valid settings to a serving gateway: secret, schema, first key, banner, processes."""

import asyncio
import fcntl
import gc
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from app.banner import FirstKey, banner, no_key
from app.errors import ConfigurationError
from app.installation import opened, read_secret, write_private
from app.main import create_app
from app.observability import logging
from app.observability.line_writer import LineWriter
from app.processes import serve_with_workers
from app.relay.roster import Roster
from app.server.run import listen, serve
from app.settings import Settings, StorageSettings, load_settings
from app.settings_upstream import UpstreamSettings
from app.storage.location import Location
from app.storage.schema import migrate

# New containers, less those that are gone, before the collector looks at them. Python's own 700 costs 3 % of a call.
_COLLECTED_AT = 10_000
_STDERR = 2
# How long a start waits for whoever reads what it says.
_TELLING_SECONDS = 1.0
# Earlier databases whose first keys one folder keeps.
_MOST_FILES = 100


def start(settings: Settings) -> None:
    """Serve until a signal ends it. Raises ConfigurationError when the gateway cannot be started as configured."""
    logging.configure(settings.logging.level, settings.logging.format)
    storage = settings.storage
    secret = read_secret(storage)
    with _only_process(storage):
        migrate(storage.url)
        shows_keys = sys.stderr is not None and sys.stderr.isatty()
        first_keys, upstreams = asyncio.run(_prepare(settings, secret, shows_keys=shows_keys))
        try:
            listener = listen(settings.server)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {settings.server.host}:{settings.server.port} ({error.strerror}). "
                "Choose another with --host and --port."
            ) from error
        url = f"http://{settings.server.local_host}:{listener.getsockname()[1]}"
        database = Location.parse(storage.url).name
        _tell(banner(settings, upstreams, url, database, first_keys, shows_keys=shows_keys))
        if settings.server.workers == 1:
            _serve(settings, secret, listener)
        else:
            serve_with_workers(work, settings.server.workers, listener)


def work(listener: socket.socket) -> None:
    """Serve in a worker process, with the settings of its parent's environment."""
    settings = load_settings()
    logging.configure(settings.logging.level, settings.logging.format)
    _serve(settings, read_secret(settings.storage), listener)


def _serve(settings: Settings, secret: bytes, listener: socket.socket) -> None:
    app = create_app(settings, secret)
    # What is loaded and built by now stays: a full collection would walk it (50 ms in which no stream moves) in vain.
    gc.freeze()
    # A call makes hundreds of containers and next to no cycles: the collector need not look after every seventh call.
    gc.set_threshold(_COLLECTED_AT)
    serve(app, settings.server, listener)


def _tell(text: str) -> None:
    """Write to stderr; where nobody reads that, without waiting for it."""
    lines = LineWriter(None if sys.stderr is None else _STDERR, lambda _: b"")
    lines.write(text.encode(errors="backslashreplace"))
    lines.close(_TELLING_SECONDS)


async def _prepare(
    settings: Settings, secret: bytes, *, shows_keys: bool
) -> tuple[Sequence[FirstKey], Sequence[UpstreamSettings]]:
    """The keys of a first start, and the upstreams that will be served.

    A key that can be neither shown nor saved is not made: nobody would ever have it.
    Raises ConfigurationError where others could reach a gateway that nobody administers.
    """
    server, storage = settings.server, settings.storage
    async with opened(storage, secret) as installation:
        await installation.take_over_secrets()
        upstreams = Roster(settings.upstreams, installation.vault).upstreams(await installation.upstreams.read())
        may_make = shows_keys or _is_writable(storage.data_dir)
        keys = await installation.first_keys(with_admin=server.admin_key is None) if may_make else None
        if not may_make and not await installation.projects.list(limit=1):
            _tell(no_key(storage.data_dir))
        if not (server.is_local or server.admin_key is not None or await installation.keys.has_administrator()):
            raise ConfigurationError(
                f"Nobody could administer this gateway, and it would listen on {server.host}, where others reach it. "
                "Set ANTIPHON_ADMIN_KEY to 16 characters or more (`openssl rand -hex 32`), or make an admin key with "
                "`antiphon keys create --name admin --scope admin`."
            )
    made = [] if keys is None else [("API", "first-api-key", keys.key)]
    if keys is not None and keys.admin_key is not None:
        made.append(("admin", "first-admin-key", keys.admin_key))
    return [FirstKey(kind, key, _save(storage, name, key)) for kind, name, key in made], upstreams


def _is_writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


def _save(storage: StorageSettings, name: str, key: str) -> Path | None:
    """The file that has the key now. That of an earlier database is not overwritten."""
    for number in range(1, _MOST_FILES):
        file = storage.data_dir / (name if number == 1 else f"{name}-{number}")
        try:
            write_private(file, f"{key}\n")
        except FileExistsError:
            continue
        except OSError:
            return None
        return file
    return None


@contextmanager
def _only_process(storage: StorageSettings) -> Iterator[None]:
    """Hold the SQLite database for this process alone: its one writer is in here."""
    if not storage.is_sqlite:
        yield
        return
    location = Location.parse(storage.url)
    location.prepare()
    path = location.file
    assert path is not None  # noqa: S101 - is_sqlite says so, for the type checker
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        # Whoever can open it can hold it.
        lock_path.touch(mode=0o600)
        lock = lock_path.open("w")
    except OSError as error:
        raise ConfigurationError(f"The file {lock_path} cannot be written ({error.strerror}).") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another gateway is serving from {path}. Stop it, or give this one a data folder of its own "
                "(ANTIPHON_DATA_DIR), or use PostgreSQL for several."
            ) from None
        yield
