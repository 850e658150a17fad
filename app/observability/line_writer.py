"""Write whole log lines to a file descriptor from a thread: no logging call waits, fails or is cut off for the log.

A descriptor may be a pipe that nobody reads, a file on a full disk, or closed. Lines that cannot be kept until they can
be written are dropped, counted, and reported in one line once lines can be written again (ADR 25).
"""

import os
import select
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from threading import Event, RLock, Thread

# The most bytes that wait for a slow reader; over that new lines are dropped.
_MOST_BYTES = 4 * 1024 * 1024
# Lines that come within this time are written together: each time the thread runs, the event loop waits for it.
_GATHER_SECONDS = 0.1
# The most bytes of one system call.
_PIECE_BYTES = 64 * 1024
# The most bytes that a pipe takes as one (POSIX's PIPE_BUF).
_PIPE_BYTES = 4096
# The wait for a full descriptor that is set not to block.
_FULL_MILLISECONDS = 100
_POLL_SECONDS = 0.005


class LineWriter:
    """Take lines from any thread, in order, and write them as they can be written.

    `descriptor` is duplicated, so that closing it elsewhere does not hand our lines to the next file of its number;
    None, or a descriptor that is closed already, drops all. `drop_notice` makes the line that says how many were
    dropped. A descriptor that `is_shared` is written by other processes too, whose lines do not break ours.
    """

    def __init__(self, descriptor: int | None, drop_notice: Callable[[int], bytes], *, is_shared: bool = False) -> None:
        self._drop_notice = drop_notice
        self._piece_bytes = _PIPE_BYTES if is_shared else _PIECE_BYTES
        self._lines: list[bytes] = []
        # Reentrant: a signal handler may log in the middle of a line of its own thread.
        self._lock = RLock()
        self._bytes = 0
        self._dropped = 0
        # Set when the last write ended within a line.
        self._is_cut = False
        # Set while the thread is sure to read the lines.
        self._is_awake = False
        self._is_closed = False
        self._woken, self._hurried = Event(), Event()
        self._thread: Thread | None = None
        try:
            self._descriptor = None if descriptor is None else os.dup(descriptor)
        except OSError:
            self._descriptor = None

    def write(self, line: bytes) -> None:
        """Take a line with its end. Never blocks and never fails."""
        with self._lock:
            size = self._bytes + len(line)
            if size > _MOST_BYTES:
                self._dropped += 1
                return
            self._bytes = size
            self._lines.append(line)
            if self._is_awake:
                return
            if self._thread is None:
                self._thread = self._start()
            self._is_awake = self._thread is not None
        self._woken.set()

    def flush(self, seconds: float) -> None:
        """Write what waits, within so many seconds: what cannot be written by then is still kept."""
        until = time.monotonic() + seconds
        self._hurried.set()
        self._woken.set()
        while self._bytes and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        self._hurried.clear()

    def close(self, seconds: float) -> None:
        """Flush, and end the thread as soon as it can be ended."""
        self.flush(seconds)
        self._is_closed = True
        self._hurried.set()
        self._woken.set()

    def _start(self) -> Thread | None:
        # A process that is out of threads goes on without a writer, and tries again with the next line.
        thread = Thread(target=self._run, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread

    def _run(self) -> None:
        while not self._is_closed:
            self._woken.wait()
            self._hurried.wait(_GATHER_SECONDS)
            self._woken.clear()
            lost = 0
            for lines in self._pieces(self._take()):
                lost = self._send(lines)
                with self._lock:
                    self._bytes -= sum(map(len, lines))
                    self._dropped += lost
            # After the lines that came before the dropped ones.
            if self._dropped and not lost:
                self._tell()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _take(self) -> list[bytes]:
        with self._lock:
            self._is_awake = False
            lines, self._lines = self._lines, []
        return lines

    def _pieces(self, lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """Group the lines that leave by one system call each."""
        ends = list(accumulate(map(len, lines)))
        start = before = 0
        while start < len(lines):
            end = max(start + 1, bisect_right(ends, before + self._piece_bytes, start))
            yield lines[start:end]
            start, before = end, ends[end - 1]

    def _tell(self) -> None:
        count = self._dropped
        if not self._send([self._drop_notice(count)]):
            with self._lock:
                self._dropped -= count

    def _send(self, lines: Sequence[bytes]) -> int:
        """Write these lines, however long it takes; return how many could not be written as a whole."""
        if self._descriptor is None:
            return len(lines)
        end = b"\n" if self._is_cut else b""
        left = memoryview(end + b"".join(lines))
        written = -len(end)
        while left:
            try:
                count = os.write(self._descriptor, left)
            except BlockingIOError:
                self._wait(self._descriptor)
                continue
            except OSError:
                return self._lost(lines, written)
            written += count
            left = left[count:]
        self._is_cut = False
        return 0

    def _lost(self, lines: Sequence[bytes], written: int) -> int:
        """Return how many of these lines are not among the bytes that were written."""
        for number, line in enumerate(lines):
            if written < len(line):
                self._is_cut = written > 0 or (self._is_cut and written < 0)
                return len(lines) - number
            written -= len(line)
        return 0

    def _wait(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.poll(_FULL_MILLISECONDS)
