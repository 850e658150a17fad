"""From valid settings to a serving gateway: secret, schema, first key, banner, processes."""

import asyncio
import fcntl
import gc
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from app.banner import banner
from app.errors import ConfigurationError
from app.installation import FirstKeys, opened, read_secret, write_private
from app.main import create_app
from app.observability import logging
from app.processes import serve_with_workers
from app.relay.roster import Roster
from app.server.run import listen, serve
from app.settings import Settings, StorageSettings, load_settings
from app.settings_upstream import UpstreamSettings
from app.storage.location import Location
from app.storage.schema import migrate

# New containers, less those that are gone, before the collector looks at them. Python's own 700 costs 3 % of a call.
_COLLECTED_AT = 10_000
# How long a thread that computes may go on while another waits. Python's own is 5 ms.
_SWITCH_SECONDS = 0.001


def start(settings: Settings) -> None:
    """Serve until a signal ends it. Raises ConfigurationError when the gateway cannot be started as configured."""
    logging.configure(settings.logging.level, settings.logging.format)
    storage = settings.storage
    secret = read_secret(storage)
    with _only_process(storage):
        migrate(storage.url)
        first_keys, upstreams = asyncio.run(_prepare(settings, secret))
        try:
            listener = listen(settings.server)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {settings.server.host}:{settings.server.port} ({error.strerror}). "
                "Choose another with --host and --port."
            ) from error
        url = f"http://{settings.server.local_host}:{listener.getsockname()[1]}"
        sys.stderr.write(banner(settings, upstreams, url, Location.parse(storage.url).name, first_keys))
        sys.stderr.flush()
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
    # What is large is worked on in a thread (`app.offload`), and the loop waits for it at each callback.
    sys.setswitchinterval(_SWITCH_SECONDS)
    serve(app, settings.server, listener)


async def _prepare(settings: Settings, secret: bytes) -> tuple[FirstKeys | None, Sequence[UpstreamSettings]]:
    """The keys of a first start, and the upstreams that will be served.

    Raises ConfigurationError where others could reach a gateway that nobody administers.
    """
    server, storage = settings.server, settings.storage
    async with opened(storage, secret) as installation:
        await installation.take_over_secrets()
        upstreams = Roster(settings.upstreams, installation.vault).upstreams(await installation.upstreams.read())
        keys = await installation.first_keys(with_admin=server.admin_key is None)
        if not (server.is_local or server.admin_key is not None or await installation.keys.has_administrator()):
            raise ConfigurationError(
                f"Nobody could administer this gateway, and it would listen on {server.host}, where others reach it. "
                "Set ANTIPHON_ADMIN_KEY to 16 characters or more (`openssl rand -hex 32`), or make an admin key with "
                "`antiphon keys create --name admin --scope admin`."
            )
    if keys is not None:
        _save(storage, "first-api-key", keys.key)
        if keys.admin_key is not None:
            _save(storage, "first-admin-key", keys.admin_key)
    return keys, upstreams


def _save(storage: StorageSettings, name: str, key: str) -> None:
    # The file of an earlier database is not overwritten, and beside PostgreSQL there may be no folder to write in.
    # The banner shows the key in any case.
    with suppress(OSError):
        storage.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(storage.data_dir / name, f"{key}\n")


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
