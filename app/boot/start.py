"""Start the gateway: file descriptors, secret, lock, socket, processes, and the banner once it serves."""

import fcntl
import gc
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog

from app import __version__
from app.boot.app_factory import create_app
from app.boot.banner import banner, no_key
from app.boot.database_startup import start_database
from app.boot.worker_processes import Parent, ShutdownTimes, WorkerProcesses
from app.errors import ConfigurationError
from app.observability import logging
from app.observability.line_writer import LineWriter
from app.security.key_ring import KeyRing
from app.security.master_secret import read_secret
from app.server.file_descriptors import limit, raise_limit
from app.server.listener import listen, turn_away
from app.server.run import serve
from app.settings.gateway import Settings, StorageSettings
from app.storage.engine.location import DatabaseLocation

# The garbage collector's first threshold, in net new containers. Python's own 700 costs 3 % of a call.
_COLLECTED_AT = 10_000
_STDERR = 2
# How long a start waits for a reader of stderr.
_TELLING_SECONDS = 1.0
# The GIL's switch interval: how long a busy thread may run while another waits. Python's own is 5 ms.
_SWITCH_SECONDS = 0.001

_log = structlog.get_logger("antiphon.start")


def start(settings: Settings) -> None:
    """Serve until a signal ends the gateway. Raises ConfigurationError if it cannot be started as configured."""
    server = settings.server
    logging.configure(settings.logging.level, settings.logging.format, is_shared=server.workers > 1)
    secret = read_secret(settings.storage)
    raise_limit(settings)
    with _only_process(settings.storage):
        try:
            listener = listen(server)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {server.host}:{server.port} ({error.strerror}). "
                "Choose another with --host and --port."
            ) from error
        if server.workers == 1:
            _serve(settings, secret, listener, announces=True)
        else:
            gc.enable()
            shutdown = ShutdownTimes(turn_away, server.shutdown_grace_seconds, server.drain_seconds)
            WorkerProcesses(partial(_work, settings, secret), server.workers, listener, shutdown).run()


def _work(settings: Settings, secret: bytes, listener: socket.socket, parent: Parent) -> None:
    """Serve in a worker process, with the parent's settings; report a mistake in them to the parent."""
    logging.configure(settings.logging.level, settings.logging.format, is_shared=True)
    try:
        _serve(settings, secret, listener, announces=parent.is_first, parent=parent)
    except ConfigurationError as error:
        parent.tell(error.problems)


def _serve(
    settings: Settings, secret: bytes, listener: socket.socket, *, announces: bool, parent: Parent | None = None
) -> None:
    """Build the app and serve it; the process that `announces` prints the banner."""
    ring = KeyRing(secret, settings.storage.previous_secrets)
    app = create_app(settings, ring)
    services = app.state.services

    async def open_() -> None:
        shows_keys = sys.stderr is not None and sys.stderr.isatty()
        found = await start_database(settings, ring, services.readiness, shows_keys=shows_keys)
        if parent is not None and parent.was_reloaded:
            # A replaced worker has missed the SIGHUP of the others.
            services.reload()
        # All objects of now stay: a full collection would walk them in vain, and stop streams for 50 ms.
        gc.freeze()
        # Of several processes that start at once one makes the first keys, and shows them this once.
        if announces or found.first_keys:
            url = f"http://{settings.server.local_host}:{listener.getsockname()[1]}"
            name = DatabaseLocation.parse(settings.storage.url).name
            _tell(banner(settings, found.upstreams, url, name, found.first_keys, shows_keys=shows_keys))
            if found.lacks_keys:
                _tell(no_key(settings.storage.data_dir))
            workers = settings.server.workers
            _log.info("serving", version=__version__, url=url, workers=workers, open_files=limit())
        await app.open()
        if parent is not None:
            parent.tell(())

    # A call makes hundreds of containers and hardly a cycle: collecting after every seventh call would be waste.
    gc.set_threshold(_COLLECTED_AT)
    gc.enable()
    # Large data is worked on in `app.runtime.compute_thread`, and the loop waits for the GIL at each callback.
    sys.setswitchinterval(_SWITCH_SECONDS)
    serve(app, settings.server, listener, open_, is_worker=parent is not None)


def _tell(text: str) -> None:
    """Write to stderr; if nobody reads it, give up after a second."""
    lines = LineWriter(None if sys.stderr is None else _STDERR, lambda _: b"")
    lines.write(text.encode(errors="backslashreplace"))
    lines.close(_TELLING_SECONDS)


@contextmanager
def _only_process(storage: StorageSettings) -> Iterator[None]:
    """Lock the SQLite database for this process, because SQLite has one writer; does nothing on PostgreSQL."""
    if not storage.is_sqlite:
        yield
        return
    location = DatabaseLocation.parse(storage.url)
    location.prepare()
    path = location.file
    assert path is not None  # noqa: S101 - is_sqlite says so, for the type checker
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        # Readable by its owner alone: whoever can open the file can lock it.
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
