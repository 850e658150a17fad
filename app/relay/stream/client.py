"""Write to the client of one call over ASGI, keep the connection alive, and end the call when the client leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from app.relay.process.admission_and_drain import CallRegistry
from app.wire.sse import KEEP_ALIVE

Message = MutableMapping[str, Any]
RawHeader = tuple[bytes, bytes]
Send = Callable[[Message], Awaitable[None]]

STREAM_HEADERS: Sequence[RawHeader] = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
"""Keeps proxies from holding a stream's events back, or changing them."""

_PIECE_BYTES = 64 * 1024


async def pieces(body: bytes) -> AsyncIterator[tuple[bytes, bool]]:
    """Cut a whole body into the pieces that are sent, each with whether others follow.

    Between two pieces the connection finds out whether its client reads, and so buffers one piece and not all.
    """
    for start in range(0, len(body) or 1, _PIECE_BYTES):
        if start:
            # What is written in one turn of the loop leaves at its end.
            await asyncio.sleep(0)
        yield body[start : start + _PIECE_BYTES], start + _PIECE_BYTES < len(body)


class Connection(Protocol):
    """Report a client that leaves, and write to it at once: ASGI takes a task per call and a coroutine per event.

    Our server also takes the whole `body` of an answer with the message that begins it.
    """

    def watch(self, on_disconnect: Callable[[], None] | None) -> None:
        """Call `on_disconnect` when the connection is lost, at once if it is already; None ends the watch."""

    def push(self, body: bytes) -> bool:
        """Write a piece of a streamed answer now; False when that cannot be, as while the client reads slowly."""


class InterruptedRunError(Exception):
    """End a call now, though upstream is not done."""


class ClientGoneError(InterruptedRunError):
    """End a call: the client closed the connection, or the server did because the client read nothing."""


class ShutdownError(InterruptedRunError):
    """End a call: the process has to stop."""


class Client:
    """Write to one client connection, for the length of one call.

    Used as a context manager around the call: when the client leaves or the process has to stop, the work inside is
    cancelled and the context raises the InterruptedRunError that says why. After that the connection may still be
    written to.
    """

    def __init__(
        self,
        send: Send,
        connection: Connection,
        registry: CallRegistry,
        *,
        keep_alive_seconds: float,
    ) -> None:
        self._send = send
        self._connection = connection
        self._registry = registry
        self._keep_alive = keep_alive_seconds
        self._loop = asyncio.get_running_loop()
        # The class and not an instance: an instance would hold every frame that it was raised through.
        self._reason: type[InterruptedRunError] | None = None
        self._call: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_write = 0.0
        self._writing = False
        self._ended = False
        self._cancelled = False
        self.begun = False

    def __enter__(self) -> Self:
        self._connection.watch(self._leave)
        # `watch` calls at once for a client that has left already.
        if self._reason is not None:
            self._connection.watch(None)
            raise self._reason()
        # With the loop given this is a look-up; without, asyncio asks the system for the process id.
        self._call = asyncio.current_task(self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call, self._call = self._call, None
        if self._timer is not None:
            self._timer.cancel()
        self._connection.watch(None)
        if not self._cancelled or call is None or self._reason is None:
            return
        if call.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._reason() from error

    def interrupt(self, reason: type[InterruptedRunError]) -> None:
        """End the call inside the context, once; before it, keep it from being entered."""
        if self._reason is None:
            self._reason = reason
            # Not at once: a task that cancels itself is cancelled at its next await, which may be outside the context,
            # and before Python 3.13 `uncancel` does not undo that.
            self._loop.call_soon(self._cancel)

    def stop(self) -> None:
        """End the call because the process stops."""
        self.interrupt(ShutdownError)

    async def answer(self, status: int, headers: Sequence[RawHeader], body: bytes) -> None:
        """Send a whole answer."""
        with_length = [*headers, (b"content-length", b"%d" % len(body))]
        head: Message = {"type": "http.response.start", "status": status, "headers": with_length}
        is_small = len(body) <= _PIECE_BYTES
        if is_small:
            head["body"] = body
        self._ended = True
        await self._send(head)
        self.begun = True
        # A client may leave once it has its answer.
        self._connection.watch(None)
        if is_small:
            return
        async for piece, follows in pieces(body):
            await self._send({"type": "http.response.body", "body": piece, "more_body": follows})

    async def begin_stream(self, status: int, headers: Sequence[RawHeader]) -> None:
        """Send the head of a streamed answer; from here on silence is filled with keep-alive comments."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.begun = True
        if self._keep_alive:
            self._last_write = self._loop.time()
            self._on_silence()

    async def write(self, frames: bytes, *, more_body: bool = True) -> None:
        """Send whole frames in one write; waits while the client reads slowly."""
        self._writing = True
        self._last_write = self._loop.time()
        await self._send({"type": "http.response.body", "body": frames, "more_body": more_body})
        self._writing = False

    def write_now(self, frames: bytes) -> bool:
        """Send whole frames in one write, if that can be done without waiting; return whether it was."""
        if not self._connection.push(frames):
            return False
        self._last_write = self._loop.time()
        return True

    async def end_stream(self) -> None:
        """Send the end of a streamed answer, if it has not been sent."""
        if not self._ended:
            self._ended = True
            self._connection.watch(None)
            await self.write(b"", more_body=False)

    def _leave(self) -> None:
        self.interrupt(ClientGoneError)

    def _cancel(self) -> None:
        if self._call is not None:
            self._cancelled = True
            self._call.cancel()

    async def _comment(self) -> None:
        # The stream may have ended since this task was started.
        if not self._ended:
            await self.write(KEEP_ALIVE)

    def _on_silence(self) -> None:
        # One timer per stream, moved only when it fires: a write costs no timer of its own.
        loop = self._loop
        silence = loop.time() - self._last_write
        if not self._writing and silence >= self._keep_alive:
            # Every write so far ended at an event boundary, so a comment may stand here.
            self._last_write = loop.time()
            self._registry.spawn(self._comment())
        soonest = loop.time() + self._keep_alive / 8
        self._timer = loop.call_at(max(self._last_write + self._keep_alive, soonest), self._on_silence)
