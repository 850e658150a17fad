"""From valid settings to a serving gateway: descriptors, secret, socket, processes, and the banner once it serves."""

import fcntl
import gc
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog

from app import __version__
from app.banner import banner, no_key
from app.errors import ConfigurationError
from app.main import create_app
from app.master_secret import read_secret
from app.observability import logging
from app.observability.line_writer import LineWriter
from app.opening import open_installation
from app.processes import Ending, Parent, Workers
from app.sealing import KeyRing
from app.server.descriptors import limit, raise_limit
from app.server.listener import listen, turn_away
from app.server.run import serve
from app.settings import Settings, StorageSettings
from app.storage.location import Location

# New containers, less those that are gone, before the collector looks at them. Python's own 700 costs 3 % of a call.
_COLLECTED_AT = 10_000
_STDERR = 2
# How long a start waits for whoever reads what it says.
_TELLING_SECONDS = 1.0
# How long a thread that computes may go on while another waits. Python's own is 5 ms.
_SWITCH_SECONDS = 0.001

_log = structlog.get_logger("antiphon.start")


def start(settings: Settings) -> None:
    """Serve until a signal ends it. Raises ConfigurationError when the gateway cannot be started as configured."""
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
            ending = Ending(turn_away, server.shutdown_grace_seconds, server.drain_seconds)
            Workers(partial(_work, settings, secret), server.workers, listener, ending).run()


def _work(settings: Settings, secret: bytes, listener: socket.socket, parent: Parent) -> None:
    """Serve in a worker process, with the settings of its parent."""
    logging.configure(settings.logging.level, settings.logging.format, is_shared=True)
    try:
        _serve(settings, secret, listener, announces=parent.is_first, parent=parent)
    except ConfigurationError as error:
        parent.tell(error.problems)


def _serve(
    settings: Settings, secret: bytes, listener: socket.socket, *, announces: bool, parent: Parent | None = None
) -> None:
    """Listen, open the installation and serve it; the banner is printed by the process that `announces`."""
    ring = KeyRing(secret, settings.storage.previous_secrets)
    app = create_app(settings, ring)
    services = app.state.services

    async def open_() -> None:
        shows_keys = sys.stderr is not None and sys.stderr.isatty()
        found = await open_installation(settings, ring, services.readiness, shows_keys=shows_keys)
        if parent is not None and parent.was_reloaded:
            # What the others were told at a SIGHUP.
            services.reload()
        # What is loaded and built by now stays: a full collection would walk it (50 ms without a stream) in vain.
        gc.freeze()
        # Of several that start at once one makes the first keys, which are shown this once.
        if announces or found.first_keys:
            url = f"http://{settings.server.local_host}:{listener.getsockname()[1]}"
            name = Location.parse(settings.storage.url).name
            _tell(banner(settings, found.upstreams, url, name, found.first_keys, shows_keys=shows_keys))
            if found.lacks_keys:
                _tell(no_key(settings.storage.data_dir))
            workers = settings.server.workers
            _log.info("serving", version=__version__, url=url, workers=workers, open_files=limit())
        await app.open()
        if parent is not None:
            parent.tell(())

    # A call makes hundreds of containers and next to no cycles: the collector need not look after every seventh call.
    gc.set_threshold(_COLLECTED_AT)
    # What is large is worked on in a thread (`app.offload`), and the loop waits for it at each callback.
    sys.setswitchinterval(_SWITCH_SECONDS)
    serve(app, settings.server, listener, open_, is_worker=parent is not None)


def _tell(text: str) -> None:
    """Write to stderr; where nobody reads that, without waiting for it."""
    lines = LineWriter(None if sys.stderr is None else _STDERR, lambda _: b"")
    lines.write(text.encode(errors="backslashreplace"))
    lines.close(_TELLING_SECONDS)


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
