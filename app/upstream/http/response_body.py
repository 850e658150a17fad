"""Buffer the body of one answer between the connection and its reader, and pause the connection when it fills."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httpx

_MAX_WAITING_BYTES = 16 * 1024


class Source(Protocol):
    """Pause, resume or abort the connection that a body comes from."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self, error: httpx.TransportError) -> None: ...


class ResponseBody:
    """Buffer the body that a connection receives. All that has come is one chunk; an error is raised after it.

    `silence` is the time, in seconds, that a reader waits for bytes after the first; None for no end. The caller bounds
    the wait for the first bytes, and the time that a reader takes is not silence.
    """

    __slots__ = (
        "_begun",
        "_error",
        "_loop",
        "_paused",
        "_reader",
        "_silence",
        "_since",
        "_source",
        "_take",
        "_timer",
        "_waiting_bytes",
        "pieces",
    )

    def __init__(self, source: Source, silence: float | None, loop: asyncio.AbstractEventLoop) -> None:
        # Filled by the source, which then calls `arrived`.
        self.pieces: list[bytes] = []
        self._source: Source | None = source
        self._silence = silence
        self._loop = loop
        self._waiting_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._begun = False
        self._paused = False
        self._error: httpx.TransportError | None = None

    @property
    def is_over(self) -> bool:
        return self._source is None and not self.pieces and self._error is None

    def take(self) -> bytes:
        pieces = self.pieces
        if not pieces:
            return b""
        self._begun = True
        chunk = self._chunk()
        pieces.clear()
        self._waiting_bytes = 0
        if self._paused:
            self._paused = False
            if self._source is not None:
                self._source.resume_reading()
        return chunk

    async def read(self) -> bytes:
        """Return the next bytes. Raises httpx.ReadTimeout, ReadError or RemoteProtocolError if they end too early."""
        while not self.pieces:
            if self._source is None:
                if self._error is not None:
                    raise self._error
                return b""
            await self._wait()
        return self.take()

    async def read_soon(self, seconds: float) -> bytes:
        """Return the next bytes if they come within this time. An error is kept for the next reader."""
        if not self.pieces and self._source is not None:
            timer = self._loop.call_later(seconds, self._wake)
            try:
                await self._wait()
            finally:
                timer.cancel()
        return self.take()

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        self._take = take
        try:
            while not self.pieces and self._source is not None:
                await self._wait()
        finally:
            self._take = None

    async def aclose(self) -> None:
        """Abort the connection, unless the body is complete; a reader at this moment gets an error."""
        if self._source is not None:
            self._source.abort(httpx.ReadError("The answer was closed before its end."))

    def arrived(self, size: int) -> None:
        """Wake the reader for new pieces of `size` bytes, and pause the connection if too much waits."""
        pieces = self.pieces
        if self._take is not None and self._take(pieces[0] if len(pieces) == 1 else self._chunk()):
            pieces.clear()
            self._since = self._loop.time()
            return
        self._waiting_bytes += size
        self._wake()
        # Also with a reader: the system may deliver megabytes before the reader's task runs.
        if self._waiting_bytes > _MAX_WAITING_BYTES and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_reading()

    def end(self, error: httpx.TransportError | None = None) -> None:
        """End the body; `error` says why if that is too early. The source is forgotten."""
        if self._paused and self._source is not None:
            self._source.resume_reading()
        self._source = None
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _chunk(self) -> bytes:
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    async def _wait(self) -> None:
        """Wait until something has come, or nothing more will."""
        self._reader = reader = self._loop.create_future()
        if self._begun and self._silence is not None:
            self._since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._silence, self._check_silence)
        try:
            await reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _check_silence(self) -> None:
        """Abort after too long a silence. Fires once in a while: arriving bytes do not touch the timer."""
        self._timer = None
        if self._reader is None or self._silence is None or self._source is None:
            return
        left = self._since + self._silence - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
        else:
            self._source.abort(httpx.ReadTimeout("The answer fell silent."))
