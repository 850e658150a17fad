"""Copy a stream from upstream to the client, byte for byte; hold the terminal event back until the commit."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from app.errors import ApiError, OverloadedError, StorageError, UpstreamError
from app.ids import new_id
from app.relay.stream.accumulator import StreamAccumulator
from app.relay.stream.redaction import may_quote_key
from app.runtime.byte_budget import UNCOUNTED_BYTES, Reservation
from app.runtime.compute_thread import ComputeThread
from app.storage.responses.store import DUPLICATE_RESPONSE
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.faults.classification import error_in_success, not_a_response
from app.upstream.faults.in_body import fault_in_event
from app.wire.json_body import LARGE_BYTES
from app.wire.responses import response_object, stream_events
from app.wire.sse import FrameSplitter, FrameTooLargeError
from app.wire.upstream_errors import ParsedError, response_error

TAIL_SECONDS = 5.0
"""How long upstream may go on after its last word."""
# An event is held as it comes and as it is written; an item as it comes and as it is saved.
_COPIES = 2
_LAST = stream_events.TERMINAL | {stream_events.DONE_MARK}
_SILENT = b"{}"
_LIMITED = 429
_BROKE = "The server had an error while processing this response."
_NO_END = "Upstream ended the stream before the response was finished."


_log = structlog.get_logger("antiphon.relay")


class Settle(Protocol):
    """Commit a response object, or what stands for it, as `Settler.settle` does."""

    def __call__(
        self, raw: bytes | None, status: str | None = None, delivered: Sequence[bytes] = (), /
    ) -> Awaitable[bytes | None]: ...


class Listener(Protocol):
    """Take the frames of a stream: a client's connection, or the event log of a background run."""

    async def write(self, frames: bytes) -> None:
        """Take whole frames; waits until they can be taken."""

    def write_now(self, frames: bytes) -> bool:
        """Take one frame that is no terminal event or error, if that can be done without waiting."""

    async def end_stream(self) -> None:
        """End the stream: nothing follows."""


class Pump:
    """Copy one stream to its listener, and settle its end.

    Invariant: what the client receives is what upstream sent, in whole frames, except for upstream's key where an error
    quotes it and the id of a response that the project has already, plus at most one `response.failed` when upstream
    did not end it. Invariant: a terminal event is written only after `settle` has returned.

    `settled_body` is the response as its terminal event was settled, `failure` why it was not.
    """

    def __init__(
        self,
        answer: UpstreamAnswer,
        listener: Listener,
        accumulator: StreamAccumulator,
        settle: Settle,
        *,
        max_event_bytes: int,
        held: Reservation,
        compute_thread: ComputeThread,
    ) -> None:
        self._compute_thread = compute_thread
        self._answer = answer
        self._listener = listener
        self._accumulator = accumulator
        self._settle = settle
        self._splitter = FrameSplitter(max_event_bytes)
        self._held = held
        self._counted = UNCOUNTED_BYTES
        self._ended = False
        self._last_word_said = False
        self._tail_follows = False
        self.settled_body: bytes | None = None
        self.failure: ApiError | None = None

    def whole(self) -> bytes:
        """Return the response of a stream that has ended, for a client that asked for no stream. Raises ApiError."""
        if self.settled_body is not None:
            return self.settled_body
        if self._accumulator.error is not None and not isinstance(self.failure, StorageError):
            raise error_in_success(self._accumulator.error)
        raise self.failure or not_a_response()

    async def run(self) -> None:
        """Relay until upstream ends, or has ended the response."""
        try:
            while not self._ended and await self._forward_next():
                if not self._ended:
                    await self._answer.forward_ready(self._forward_now)
            if not self._ended:
                await self._end_at_eof()
        except FrameTooLargeError:
            await self.fail("upstream_event_too_large", "Upstream sent an event larger than this gateway accepts.")
        except (UpstreamError, OverloadedError) as fault:
            await self.fail(fault.code or "server_error", fault.message)
        except ApiError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke, the client is told how the response ended
            # The type alone: the text of an error may quote what was said.
            _log.error("a stream broke", error=type(error).__name__)
            await self.fail("server_error", _BROKE)
        if self._tail_follows:
            await self._forward_tail()
        await self._listener.end_stream()

    async def fail(self, code: str, message: str) -> None:
        """End the response in upstream's stead: settle it as failed, and write one `response.failed` to the client.

        A response that was interrupted during its settling is not settled again: its commit goes on by itself.
        """
        if not self._ended:
            self._ended = True
            await self._end_as_failed(UpstreamError(message, code=code))
        elif not self._last_word_said and not self._accumulator.saw_error:
            await self._write_failure(self._failure(UpstreamError(message, code=code)))

    async def abandon(self) -> None:
        """Settle what there is of a response whose client has left, unless its id was never announced."""
        if self._ended or not self._accumulator.announced:
            return
        self._ended = True
        with suppress(StorageError, UpstreamError):
            await self._settle(self._accumulator.ended("cancelled"))

    def _forward_now(self, chunk: bytes) -> bool:
        """Relay a chunk that is one ordinary frame, as nearly all are; any other chunk is for `_forward_next`."""
        if len(chunk) >= LARGE_BYTES or not self._splitter.is_frame(chunk):
            return False
        if stream_events.kind(chunk) is not None or may_quote_key(chunk, None):
            return False
        if not self._listener.write_now(chunk):
            return False
        self._accumulator.feed(chunk, None)
        return True

    async def _forward_next(self) -> bool:
        """Relay the frames that the next chunk completes; False when there is no chunk.

        While the client does not take the frames they are held once.
        """
        chunk = await self._answer.read()
        if not chunk:
            return False
        received = self._splitter.feed(chunk)
        del chunk
        waiting = self._splitter.size + self._accumulator.size
        if waiting > self._counted:
            # Twice what is there: large events and items come in many pieces.
            await self._held.add(waiting * _COPIES)
            self._counted += waiting
        frames = await self._feed(received)
        del received
        if frames:
            await self._listener.write(frames)
        return True

    async def _feed(self, received: Sequence[bytes]) -> bytes:
        """Accumulate these frames; return what is to be passed on, nothing where one of them ended the stream."""
        frames: list[bytes] = []
        left, is_large = iter(received), max(map(len, received), default=0) >= LARGE_BYTES
        read, feed = self._inspect_now, self._accumulator.feed
        for each in left:
            kind, frame = await self._inspect(each) if is_large else read(each)
            if kind is not None and kind in _LAST:
                if frames:
                    await self._listener.write(b"".join(frames))
                self._tail_follows = await self._end(frame, kind, await self._redacted(left))
                return b""
            if is_large and len(frame) >= LARGE_BYTES:
                await self._compute_thread.run(len(frame), feed, frame, kind)
            else:
                feed(frame, kind)
            frames.append(frame)
        return b"".join(frames)

    async def _end(self, last: bytes, kind: bytes, rest: bytes) -> bool:
        """End with this frame, which `rest` came behind; return whether more may follow.

        Readers stop at a `[DONE]`, so a failure that ends the response has to come first.
        """
        if kind == stream_events.DONE_MARK:
            await self.fail("upstream_disconnected", _NO_END)
            await self._listener.write(last + rest)
            return True
        return await self._finish(last, kind, rest)

    async def _finish(self, terminal: bytes, kind: bytes, rest: bytes) -> bool:
        """Commit, then write the terminal event and what came with it; False when the commit was not made.

        A response that cannot be saved is not announced: the client gets a failure, and not a `completed` that nobody
        could find. Where only its id is taken in the project, the response is saved and shown under another id.
        """
        self._ended = True
        said, status = stream_events.member(terminal, "response"), stream_events.status(kind)
        if said is None and stream_events.payload(terminal):
            said = _SILENT
        said = self._accumulator.completed(said)
        try:
            self.settled_body = await self._settle(said, status, self._accumulator.items(status))
        except StorageError as error:
            if error.code == DUPLICATE_RESPONSE and said is not None:
                return await self._finish(await self._renamed(terminal, said), kind, rest)
            self.failure = error
            await self._write_failure(self._failure(error))
            return False
        except UpstreamError as error:
            await self._end_as_failed(error)
            return False
        self._last_word_said = True
        await self._listener.write(terminal + rest)
        return True

    async def _renamed(self, terminal: bytes, said: bytes) -> bytes:
        name = new_id("resp")
        if len(terminal) < LARGE_BYTES:
            return stream_events.renamed(terminal, said, name)
        return await self._compute_thread.run(len(terminal), stream_events.renamed, terminal, said, name)

    async def _end_as_failed(self, error: ApiError) -> None:
        self.failure = error
        body = self._failure(error)
        with suppress(StorageError, UpstreamError):
            # The client gets a failure either way, whether it could be saved or not.
            settled_body = await self._settle(body)
            if settled_body is not None:
                # A summary that went before is shown only in the saved response: no event has shown it.
                args = (settled_body, len(self._accumulator.items("failed")))
                body = await self._compute_thread.run(len(settled_body), response_object.with_last_items, *args)
        if not self._accumulator.saw_error:
            await self._write_failure(body)

    async def _write_failure(self, body: bytes) -> None:
        self._last_word_said = True
        await self._listener.write(stream_events.failed(body, self._accumulator.next_number()))

    def _failure(self, error: ApiError) -> bytes:
        """Make the failed response: with upstream's own error, if it sent one, else with this one."""
        said = self._accumulator.error or ParsedError(error.message, error.code or "server_error")
        return self._accumulator.ended("failed", response_error(said))

    async def _end_at_eof(self) -> None:
        """Handle an end of file: a last event without its blank line still counts; anything less is a failure."""
        kind, rest = await self._inspect(self._splitter.rest)
        if kind in stream_events.TERMINAL and stream_events.member(rest, "response") is not None:
            await self._finish(rest, kind, b"")
        else:
            await self.fail("upstream_disconnected", _NO_END)
            if kind == stream_events.DONE_MARK:
                await self._listener.write(rest)

    async def _forward_tail(self) -> None:
        """Relay what upstream sends after its terminal event (a `[DONE]`), for a short while."""
        with suppress(UpstreamError, FrameTooLargeError, TimeoutError):
            async with asyncio.timeout(TAIL_SECONDS):
                while chunk := await self._answer.read():
                    if frames := self._splitter.feed(chunk):
                        await self._listener.write(await self._redacted(frames))
        if rest := self._splitter.rest:
            await self._listener.write((await self._inspect(rest))[1])

    async def _redacted(self, frames: Iterable[bytes]) -> bytes:
        return b"".join([(await self._inspect(each))[1] for each in frames])

    async def _inspect(self, frame: bytes) -> tuple[bytes | None, bytes]:
        """Return the frame's `stream_events.kind`, and the frame without upstream's key."""
        return (
            self._inspect_now(frame)
            if len(frame) < LARGE_BYTES
            else await self._compute_thread.run(len(frame), self._inspect_now, frame)
        )

    def _inspect_now(self, frame: bytes) -> tuple[bytes | None, bytes]:
        kind = stream_events.kind(frame)
        if not may_quote_key(frame, kind):
            return kind, frame
        frame = self._answer.account.redacted(frame)
        if kind in stream_events.FAULTS and (words := fault_in_event(frame)) is not None and words.status == _LIMITED:
            self._answer.limited(words)
        return kind, frame
