"""File descriptors: as many as the process may have, enough for what the settings promise, never all for clients."""

import asyncio
import resource
import time
from collections.abc import Callable

import structlog

from app.settings import Settings

# A hard limit can be a thousand million; the kernel keeps a table as long as the highest descriptor in use.
_MOST = 1_048_576
# A call has its client's connection and one to upstream. Beside each there may be a listener, with its client's alone.
_EACH_CALL = 3
# Files, pipes, the log, the loop's own.
_OTHERS = 64

# What clients may have of all, so that calls find one for upstream and the database.
_OF_CLIENTS = 0.75
_SAID_AGAIN_SECONDS = 60.0
# Of so many connections at once, this part is few.
_MANY, _FEW = 100, 0.5
_TRIM_SECONDS = 3.0

_log = structlog.get_logger("antiphon.start")


def limit() -> int:
    """How many files and connections this process may have open at once."""
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
    """The descriptors of one process under full load."""
    calls = settings.server.max_concurrent_requests * _EACH_CALL
    # A kept connection to upstream may be nobody's at the moment.
    kept = max(0, settings.relay.max_upstream_connections - settings.server.max_concurrent_requests)
    return calls + kept + settings.storage.pool_size + 1 + _OTHERS


class ConnectionLimit:
    """How many connections of clients are open at most; one more is closed as it comes.

    `trim` is called some time after most of many are gone: what they held is free, and to be given back.
    """

    def __init__(self, most: int | None = None, *, trim: Callable[[], None] = lambda: None) -> None:
        self._most = int(limit() * _OF_CLIENTS) if most is None else most
        self._silent_until = 0.0
        self._trim = trim
        self._trimming: asyncio.TimerHandle | None = None
        # At once, since the last time.
        self._highest = 0

    def admits(self, count: int) -> bool:
        """Whether there may be one more beside this many. Says in the log, once a minute, that there may not."""
        if count < self._most:
            self._highest = max(self._highest, count)
            return True
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SAID_AGAIN_SECONDS
            _log.warning("connections are turned away: too few open files are allowed", open=count, open_files=limit())
        return False

    def left(self, count: int) -> None:
        """Hear that one is gone, and how many are left."""
        if self._trimming is None and self._highest >= _MANY and count < self._highest * _FEW:
            self._trimming = asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim_now)

    def _trim_now(self) -> None:
        self._trimming, self._highest = None, 0
        self._trim()
