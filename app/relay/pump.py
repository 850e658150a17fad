"""A stream from upstream to the client, byte for byte; its last word waits for the commit."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from app.byte_budget import UNCOUNTED_BYTES, Reservation
from app.errors import ApiError, OverloadedError, StorageError, UpstreamError
from app.ids import new_id
from app.offload import Offload
from app.relay.blanking import is_suspect
from app.relay.fold import Fold
from app.relay.settle import not_a_response
from app.storage.response_store import DUPLICATE_RESPONSE
from app.upstream.answer import UpstreamAnswer
from app.upstream.faults import refusal_of
from app.upstream.told_fault import told_in_event
from app.wire import events, response
from app.wire.body import LARGE_BYTES
from app.wire.error_words import ErrorWords, response_error
from app.wire.sse import FrameSplitter, FrameTooLargeError

_TAIL_SECONDS = 5.0
# An event is held as it comes, and as it is written; an item as it came, and as it is kept.
_COPIES = 2
_LAST = events.TERMINAL | {events.DONE_MARK}
_SILENT = b"{}"
_LIMITED = 429
_NO_END = "Upstream ended the stream before the response was finished."


class Settle(Protocol):
    """Commits a response object, or what stands for one, as `Settler.settle` does."""

    def __call__(
        self, raw: bytes | None, status: str | None = None, delivered: Sequence[bytes] = (), /
    ) -> Awaitable[bytes | None]: ...


class Listener(Protocol):
    """Who hears a stream: a client's connection, or the journal of a run in the background."""

    async def write(self, frames: bytes) -> None:
        """Take whole frames; waits while they cannot be taken."""

    def write_now(self, frames: bytes) -> bool:
        """Take one frame of no consequence, if that can be done without waiting."""

    async def end_stream(self) -> None:
        """Nothing follows."""


class Pump:
    """One stream.

    Invariant: what the client receives is what upstream sent, in whole frames, but for upstream's key where an error
    quotes it and the id of a response that the project has already, plus at most one `response.failed` when upstream
    did not end it. Invariant: a terminal event is written only after `settle` has returned.

    `settled` is the response as it was settled by its terminal event, `failure` why it was not.
    """

    def __init__(
        self,
        answer: UpstreamAnswer,
        listener: Listener,
        fold: Fold,
        settle: Settle,
        *,
        max_event_bytes: int,
        held: Reservation,
        offload: Offload,
    ) -> None:
        self._offload = offload
        self._answer = answer
        self._listener = listener
        self._fold = fold
        self._settle = settle
        self._splitter = FrameSplitter(max_event_bytes)
        self._held = held
        self._counted = UNCOUNTED_BYTES
        self._ended = False
        self._last_word_said = False
        self._tail_follows = False
        self.settled: bytes | None = None
        self.failure: ApiError | None = None

    def whole(self) -> bytes:
        """The response of a stream that has ended, for a client that asked for none. Raises ApiError."""
        if self.settled is not None:
            return self.settled
        if self._fold.error is not None and not isinstance(self.failure, StorageError):
            raise refusal_of(self._fold.error)
        raise self.failure or not_a_response()

    async def run(self) -> None:
        """Relay until upstream ends, or has ended the response."""
        try:
            while not self._ended and await self._pass_on_next():
                if not self._ended:
                    await self._answer.pour(self._pass_on_now)
            if not self._ended:
                await self._pass_on_unfinished_frame()
        except FrameTooLargeError:
            await self.fail("upstream_event_too_large", "Upstream sent an event larger than this gateway accepts.")
        except (UpstreamError, OverloadedError) as fault:
            await self.fail(fault.code or "server_error", fault.message)
        if self._tail_follows:
            await self._pass_on_tail()
        await self._listener.end_stream()

    async def fail(self, code: str, message: str) -> None:
        """End the response in upstream's stead: settled as failed, and one `response.failed` for the client.

        One that was interrupted while it was being settled is not settled again: its commit goes on by itself.
        """
        if not self._ended:
            self._ended = True
            await self._end_as_failed(UpstreamError(message, code=code))
        elif not self._last_word_said and not self._fold.saw_error:
            await self._write_failure(self._failure(UpstreamError(message, code=code)))

    async def abandon(self) -> None:
        """Settle what there is of a response whose client has left. One that was never announced leaves nothing."""
        if self._ended or not self._fold.announced:
            return
        self._ended = True
        with suppress(StorageError, UpstreamError):
            await self._settle(self._fold.ended("cancelled"))

    def _pass_on_now(self, chunk: bytes) -> bool:
        """Relay a chunk that is one frame of no consequence, as nearly all are; any other is for `_pass_on_next`."""
        if len(chunk) >= LARGE_BYTES or not self._splitter.is_frame(chunk):
            return False
        if events.kind(chunk) is not None or is_suspect(chunk, None):
            return False
        if not self._listener.write_now(chunk):
            return False
        self._fold.see(chunk, None)
        return True

    async def _pass_on_next(self) -> bool:
        """Relay the frames that the next chunk completes; False when there is no chunk.

        While the client does not take them they are held once.
        """
        chunk = await self._answer.read()
        if not chunk:
            return False
        received = self._splitter.feed(chunk)
        del chunk
        waiting = self._splitter.size + self._fold.size
        if waiting > self._counted:
            # As much again as there is: large events and items come in many pieces.
            await self._held.add(waiting * _COPIES)
            self._counted += waiting
        frames = await self._see(received)
        del received
        if frames:
            await self._listener.write(frames)
        return True

    async def _see(self, received: Sequence[bytes]) -> bytes:
        """Take note of these frames; returns what is to be passed on, nothing where one ended the stream."""
        frames: list[bytes] = []
        left, is_large = iter(received), max(map(len, received), default=0) >= LARGE_BYTES
        read, see = self._read, self._fold.see
        for each in left:
            kind, frame = await self._understand(each) if is_large else read(each)
            if kind is not None and kind in _LAST:
                if frames:
                    await self._listener.write(b"".join(frames))
                self._tail_follows = await self._end(frame, kind, await self._without_key(left))
                return b""
            if is_large and len(frame) >= LARGE_BYTES:
                await self._offload.run(len(frame), see, frame, kind)
            else:
                see(frame, kind)
            frames.append(frame)
        return b"".join(frames)

    async def _end(self, last: bytes, kind: bytes, rest: bytes) -> bool:
        """End with this frame, behind which `rest` came; whether more may follow.

        Readers stop at a `[DONE]`, so a failure to end the response before it has to come first.
        """
        if kind == events.DONE_MARK:
            await self.fail("upstream_disconnected", _NO_END)
            await self._listener.write(last + rest)
            return True
        return await self._finish(last, kind, rest)

    async def _finish(self, terminal: bytes, kind: bytes, rest: bytes) -> bool:
        """Commit, then write the terminal event and what came with it; False when the commit was not made.

        What cannot be kept is not announced: the client gets a failure, and not a `completed` that nobody could find.
        Only where all that is wrong is an id that the project has already, it is kept and told under another.
        """
        self._ended = True
        said, status = events.member(terminal, "response"), events.status(kind)
        if said is None and events.payload(terminal):
            said = _SILENT
        said = self._fold.completed(said)
        try:
            self.settled = await self._settle(said, status, self._fold.items(status))
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
            return events.renamed(terminal, said, name)
        return await self._offload.run(len(terminal), events.renamed, terminal, said, name)

    async def _end_as_failed(self, error: ApiError) -> None:
        self.failure = error
        body = self._failure(error)
        with suppress(StorageError, UpstreamError):
            # The client learns of a failure either way; whether it could be kept changes nothing in that.
            settled = await self._settle(body)
            if settled is not None:
                # A summary that went before is told where the response is kept: no event has told it.
                told = (settled, len(self._fold.items("failed")))
                body = await self._offload.run(len(settled), response.with_last_items, *told)
        if not self._fold.saw_error:
            await self._write_failure(body)

    async def _write_failure(self, body: bytes) -> None:
        self._last_word_said = True
        await self._listener.write(events.failed(body, self._fold.next_number()))

    def _failure(self, error: ApiError) -> bytes:
        """The response as failed: as upstream has said, if it has, and else for this."""
        said = self._fold.error or ErrorWords(error.message, error.code or "server_error")
        return self._fold.ended("failed", response_error(said))

    async def _pass_on_unfinished_frame(self) -> None:
        """Handle an end of file: a last event without its blank line still counts; anything less is a failure."""
        kind, rest = await self._understand(self._splitter.rest)
        if kind in events.TERMINAL and events.member(rest, "response") is not None:
            await self._finish(rest, kind, b"")
        else:
            await self.fail("upstream_disconnected", _NO_END)
            if kind == events.DONE_MARK:
                await self._listener.write(rest)

    async def _pass_on_tail(self) -> None:
        """Relay what upstream sends after its terminal event (a `[DONE]`), for a short while."""
        with suppress(UpstreamError, FrameTooLargeError, TimeoutError):
            async with asyncio.timeout(_TAIL_SECONDS):
                while chunk := await self._answer.read():
                    if frames := self._splitter.feed(chunk):
                        await self._listener.write(await self._without_key(frames))
        if rest := self._splitter.rest:
            await self._listener.write((await self._understand(rest))[1])

    async def _without_key(self, frames: Iterable[bytes]) -> bytes:
        return b"".join([(await self._understand(each))[1] for each in frames])

    async def _understand(self, frame: bytes) -> tuple[bytes | None, bytes]:
        """The frame's `events.kind`, and the frame without upstream's key."""
        return self._read(frame) if len(frame) < LARGE_BYTES else await self._offload.run(len(frame), self._read, frame)

    def _read(self, frame: bytes) -> tuple[bytes | None, bytes]:
        kind = events.kind(frame)
        if not is_suspect(frame, kind):
            return kind, frame
        frame = self._answer.account.blanked(frame)
        if kind in events.FAULTS and (words := told_in_event(frame)) is not None and words.status == _LIMITED:
            self._answer.limited(words)
        return kind, frame
