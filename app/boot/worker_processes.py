"""Start worker processes on one socket, replace dead ones, pass signals on to them, and end them.

Each worker has a pipe to its parent. A worker whose pipe closes has lost its parent, and ends as at SIGTERM. On it a
worker reports that it serves, or the operator's mistake that it met, which ends the start unless a worker has served.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import structlog

from app.errors import ConfigurationError
from app.observability import logging

# If more than these many workers for each die within this time, the gateway ends.
_WINDOW_SECONDS = 60.0
_DEATHS_OF_EACH = 3
_RESTART_SECONDS, _LONGEST_RESTART_SECONDS = 0.5, 8.0
# The time that a worker has to end, beyond grace and drain, before it is killed.
_ENDING_SECONDS = 15.0
_TICK_SECONDS = 0.5
# The time to flush the log before a forced exit.
_LOG_FLUSH_SECONDS = 1.0

_log = structlog.get_logger("antiphon.processes")


@dataclass(frozen=True, slots=True)
class Parent:
    """Connect a worker to the process that started it."""

    line: Connection
    is_first: bool
    was_reloaded: bool
    ending_seconds: float

    def tell(self, problems: Sequence[str]) -> None:
        """Report the operator's mistakes that keep this worker from serving; none if it serves."""
        with suppress(OSError):
            self.line.send(list(problems))

    def watch(self) -> None:
        """End this process when its parent is gone, whatever its event loop is doing."""
        threading.Thread(target=self._watch, name="parent", daemon=True).start()

    def _watch(self) -> None:
        with suppress(EOFError, OSError):
            self.line.recv_bytes()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.ending_seconds)
        logging.flush(_LOG_FLUSH_SECONDS)
        os._exit(1)


@dataclass(frozen=True, slots=True)
class ShutdownTimes:
    """Set how workers end: after the grace `turn_away` closes their socket, then they drain. Times in seconds."""

    turn_away: Callable[[socket.socket], None]
    grace_seconds: float
    drain_seconds: float


class WorkerProcesses:
    """Supervise `count` processes that run `work` on one socket. Invariant: none outlives `run`."""

    def __init__(
        self,
        work: Callable[[socket.socket, Parent], None],
        count: int,
        listener: socket.socket,
        shutdown: ShutdownTimes,
    ) -> None:
        self._work = work
        self._count = count
        self._listener = listener
        self._shutdown = shutdown
        self._ending_seconds = shutdown.grace_seconds + shutdown.drain_seconds + _ENDING_SECONDS
        self._spawn = multiprocessing.get_context("spawn")
        self._lines: dict[SpawnProcess, Connection] = {}
        self._signals: list[int] = []
        self._started = 0
        self._was_reloaded = False
        self._has_served = False
        self._deaths: deque[float] = deque()
        self._problems: Sequence[str] = ()

    def run(self) -> None:
        """Keep workers running until a signal, and pass it on, and a second one too.

        Raises ConfigurationError for a mistake that a worker reported, and when workers keep dying.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGHUP, lambda *_: self._reload())
        try:
            self._supervise()
            self._end()
        finally:
            for process in self._lines:
                process.kill()
                process.join()
        if self._problems:
            raise ConfigurationError(*self._problems)

    def _start(self) -> None:
        ours, theirs = self._spawn.Pipe()
        parent = Parent(theirs, self._started == 0, self._was_reloaded, self._ending_seconds)
        process = self._spawn.Process(target=_run, args=(self._work, self._listener, parent))
        process.start()
        theirs.close()
        self._lines[process] = ours
        self._started += 1

    def _supervise(self) -> None:
        """Replace dead workers, until a signal comes, a worker reports a mistake, or too many have died."""
        starts_at = 0.0
        while not (self._signals or self._problems):
            now = time.monotonic()
            if starts_at <= now:
                while len(self._lines) < self._count and not self._signals:
                    self._start()
            dead = self._reap()
            for _ in range(dead):
                self._deaths.append(now)
            while self._deaths and self._deaths[0] < now - _WINDOW_SECONDS:
                self._deaths.popleft()
            if len(self._deaths) > _DEATHS_OF_EACH * self._count and not self._problems:
                died = f"{len(self._deaths)} within {_WINDOW_SECONDS:g} seconds"
                self._problems = (f"Worker processes keep dying ({died}), so the gateway ends: see the log.",)
            if dead:
                rounds = len(self._deaths) / self._count
                starts_at = now + min(_LONGEST_RESTART_SECONDS, _RESTART_SECONDS * rounds)
            self._sleep()

    def _end(self) -> None:
        """Pass each signal on; returns with workers left, for `run` to kill, if they do not end in time."""
        passed = 0
        began = time.monotonic()
        is_accepting = True
        if not self._signals:
            # No signal came: a mistake was found. SIGTERM also ends a worker that has just begun, without a message.
            self._signals.append(signal.SIGTERM)
        grace = 0.0 if self._signals[0] == signal.SIGINT else self._shutdown.grace_seconds
        while self._lines:
            for number in self._signals[passed:]:
                # A supervisor may send SIGTERM to the workers, too: so SIGINT is the second signal for them.
                self._pass_on(signal.SIGINT if passed else number)
                passed += 1
            now = time.monotonic() - began
            if is_accepting and now >= grace:
                is_accepting = False
                self._shutdown.turn_away(self._listener)
                self._listener.close()
            if now >= self._ending_seconds:
                _log.error("workers did not end in time, and are killed", workers=len(self._lines))
                return
            self._reap()
            self._sleep()

    def _sleep(self) -> None:
        """Wait briefly for a worker's death or a signal."""
        # Short, because a signal does not end the wait.
        wait([process.sentinel for process in self._lines], _TICK_SECONDS / 5 if self._signals else _TICK_SECONDS)
        if not self._lines:
            time.sleep(_TICK_SECONDS / 5)

    def _reap(self) -> int:
        """Reap the workers that have ended; returns how many did."""
        ended = [process for process in self._lines if not process.is_alive()]
        # A dead worker's last report may have come since.
        self._receive_reports()
        for process in ended:
            self._lines.pop(process).close()
            process.join()
            if not self._signals and not self._problems:
                _log.error("a worker died", pid=process.pid, status=process.exitcode)
        return len(ended)

    def _receive_reports(self) -> None:
        """Read the workers' reports; a mistake counts only as long as no worker has served."""
        for line in self._lines.values():
            with suppress(EOFError, OSError):
                while line.poll():
                    problems: Sequence[str] = line.recv()
                    if not problems:
                        self._has_served = True
                    elif self._has_served:
                        _log.error("a worker cannot start", problems=problems)
                    else:
                        self._problems = problems

    def _reload(self) -> None:
        """Have all workers reload the settings, and those that start later too."""
        self._was_reloaded = True
        self._pass_on(signal.SIGHUP)

    def _pass_on(self, number: int) -> None:
        for process in list(self._lines):
            if process.pid is not None and process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def _run(work: Callable[[socket.socket, Parent], None], listener: socket.socket, parent: Parent) -> None:
    # Signals of a terminal reach the parent alone, which passes them on: else they would count twice.
    os.setpgid(0, 0)
    # Ignored until the server, which reloads settings, is running.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent.watch()
    work(listener, parent)
