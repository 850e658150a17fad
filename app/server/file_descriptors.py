"""Raise the limit of file descriptors, warn if the settings need more, and keep some from clients' connections."""

import asyncio
import resource
import time
from collections.abc import Callable

import structlog

from app.settings.gateway import Settings

# A hard limit can be a billion, and the kernel's table is as long as the highest descriptor in use.
_MOST = 1_048_576
# A call has its client's connection and one to upstream. A listener to its stream may have one more.
_EACH_CALL = 3
# Files, pipes, the log, the loop's own.
_OTHERS = 64

# The share of client connections, so that calls find descriptors for upstream and the database.
_OF_CLIENTS = 0.75
_WARNING_INTERVAL_SECONDS = 60.0
# With at least this many connections before, this share of them is few.
_MANY, _FEW = 100, 0.5
_TRIM_SECONDS = 3.0

_log = structlog.get_logger("antiphon.start")


def limit() -> int:
    """Return how many files and connections this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def raise_limit(settings: Settings) -> None:
    """Raise the soft limit to the hard one, for this process and its workers; warn if the settings need more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if limit() < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files cannot be raised", limit=limit(), reason=str(error))
    needed = needed_by(settings)
    if limit() < needed:
        _log.warning(
            "too few open files are allowed for these settings: connections will be refused under full load",
            limit=limit(),
            needed=needed,
            advice="raise the hard limit (LimitNOFILE= of systemd, --ulimit nofile= of Docker, ulimit -Hn), or lower "
            "max_concurrent_requests and max_upstream_connections",
        )


def needed_by(settings: Settings) -> int:
    """Estimate the descriptors of one process under full load."""
    calls = settings.server.max_concurrent_requests * _EACH_CALL
    # An idle connection in the connection pool belongs to no call.
    kept = max(0, settings.relay.max_upstream_connections - settings.server.max_concurrent_requests)
    return calls + kept + settings.storage.pool_size + 1 + _OTHERS


class ConnectionLimit:
    """Limit the open connections of clients; a further one is closed as it comes.

    `trim` is called some time after most of many are gone, to give their memory back to the system.
    """

    def __init__(self, most: int | None = None, *, trim: Callable[[], None] = lambda: None) -> None:
        self._most = int(limit() * _OF_CLIENTS) if most is None else most
        self._silent_until = 0.0
        self._trim = trim
        self._trimming: asyncio.TimerHandle | None = None
        # The most at once since the last trim.
        self._highest = 0

    def admits(self, count: int) -> bool:
        """Tell whether there may be one more beside `count`. Logs a refusal once a minute."""
        if count < self._most:
            self._highest = max(self._highest, count)
            return True
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _WARNING_INTERVAL_SECONDS
            _log.warning("connections are turned away: too few open files are allowed", open=count, open_files=limit())
        return False

    def left(self, count: int) -> None:
        """Note that a connection has closed, and that `count` are left."""
        if self._trimming is None and self._highest >= _MANY and count < self._highest * _FEW:
            self._trimming = asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim_now)

    def _trim_now(self) -> None:
        self._trimming, self._highest = None, 0
        self._trim()
