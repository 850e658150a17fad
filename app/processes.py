"""Worker processes on one socket: started, replaced, told to read the settings again, ended. Not what they do.

Each has a line to its parent. A worker whose line is cut has lost its parent, and ends as at SIGTERM. On it a worker
tells that it serves, or which mistake of the operator's it met: as long as none has served, that ends the start.
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

# Workers that end by themselves within this time, beyond these many for each, are not replaced any more.
_WINDOW_SECONDS = 60.0
_DEATHS_OF_EACH = 3
_RESTART_SECONDS, _LONGEST_RESTART_SECONDS = 0.5, 8.0
# What a worker has beyond its grace and its budget to end, before it is killed.
_ENDING_SECONDS = 15.0
_TICK_SECONDS = 0.5
# What the log has for what was said, before an end that waits for nothing else.
_SAYING_SECONDS = 1.0

_log = structlog.get_logger("antiphon.processes")


@dataclass(frozen=True, slots=True)
class Parent:
    """What a worker knows of the process that started it."""

    line: Connection
    is_first: bool
    was_reloaded: bool
    ending_seconds: float

    def tell(self, problems: Sequence[str]) -> None:
        """Tell which mistakes of the operator's keep this worker from serving; none, when it serves."""
        with suppress(OSError):
            self.line.send(list(problems))

    def watch(self) -> None:
        """Have this process end when its parent is gone, whatever its event loop is doing."""
        threading.Thread(target=self._watch, name="parent", daemon=True).start()

    def _watch(self) -> None:
        with suppress(EOFError, OSError):
            self.line.recv_bytes()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.ending_seconds)
        logging.flush(_SAYING_SECONDS)
        os._exit(1)


@dataclass(frozen=True, slots=True)
class Ending:
    """How workers end: after the grace their socket is `turn_away`ed, then they have their budget. In seconds."""

    turn_away: Callable[[socket.socket], None]
    grace_seconds: float
    drain_seconds: float


class Workers:
    """So many processes that run `work` on one socket. Invariant: none is left when `run` returns or raises."""

    def __init__(
        self, work: Callable[[socket.socket, Parent], None], count: int, listener: socket.socket, ending: Ending
    ) -> None:
        self._work = work
        self._count = count
        self._listener = listener
        self._ending = ending
        self._ending_seconds = ending.grace_seconds + ending.drain_seconds + _ENDING_SECONDS
        self._spawn = multiprocessing.get_context("spawn")
        self._lines: dict[SpawnProcess, Connection] = {}
        self._signals: list[int] = []
        self._started = 0
        self._was_reloaded = False
        self._has_served = False
        self._deaths: deque[float] = deque()
        self._problems: Sequence[str] = ()

    def run(self) -> None:
        """Keep them until a signal comes, which is passed on, and a second one too.

        Raises ConfigurationError for a mistake that a worker met, and when workers keep dying.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGHUP, lambda *_: self._reload())
        try:
            self._keep()
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

    def _keep(self) -> None:
        """Replace who dies, until a signal comes, a worker tells of a mistake, or too many died."""
        starts_at = 0.0
        while not (self._signals or self._problems):
            now = time.monotonic()
            if starts_at <= now:
                while len(self._lines) < self._count and not self._signals:
                    self._start()
            dead = self._bury()
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
        """Pass each signal on, and kill who has not ended in time."""
        passed = 0
        began = time.monotonic()
        is_accepting = True
        if not self._signals:
            # Nobody asked for an end: a mistake was found. This one also ends who has just begun, without a word.
            self._signals.append(signal.SIGTERM)
        grace = 0.0 if self._signals[0] == signal.SIGINT else self._ending.grace_seconds
        while self._lines:
            for number in self._signals[passed:]:
                # A SIGTERM comes to workers from whoever stops all processes of a service, too: SIGINT is the second.
                self._pass_on(signal.SIGINT if passed else number)
                passed += 1
            now = time.monotonic() - began
            if is_accepting and now >= grace:
                is_accepting = False
                self._ending.turn_away(self._listener)
                self._listener.close()
            if now >= self._ending_seconds:
                _log.error("workers did not end in time, and are killed", workers=len(self._lines))
                return
            self._bury()
            self._sleep()

    def _sleep(self) -> None:
        """Wait for a death or a signal, for a moment."""
        # A signal's handler runs, and the wait goes on: so it is short.
        wait([process.sentinel for process in self._lines], _TICK_SECONDS / 5 if self._signals else _TICK_SECONDS)
        if not self._lines:
            time.sleep(_TICK_SECONDS / 5)

    def _bury(self) -> int:
        """Forget who has ended; returns how many did."""
        ended = [process for process in self._lines if not process.is_alive()]
        # The last that they said may have come since.
        self._hear()
        for process in ended:
            self._lines.pop(process).close()
            process.join()
            if not self._signals and not self._problems:
                _log.error("a worker died", pid=process.pid, status=process.exitcode)
        return len(ended)

    def _hear(self) -> None:
        """Hear who serves, and who cannot: once any has served, that is no reason to end the others."""
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
        """Have them read the settings again, and those that come later too."""
        self._was_reloaded = True
        self._pass_on(signal.SIGHUP)

    def _pass_on(self, number: int) -> None:
        for process in list(self._lines):
            if process.pid is not None and process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def _run(work: Callable[[socket.socket, Parent], None], listener: socket.socket, parent: Parent) -> None:
    # What is typed at a terminal is the parent's to pass on: from both it would count twice.
    os.setpgid(0, 0)
    # Read again only once there is something that has read them.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent.watch()
    work(listener, parent)
