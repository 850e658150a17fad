"""Copy a stream of a chat completion to its client, frame by frame, and note its usage and its end."""

import asyncio
from contextlib import suppress

from app.errors import OverloadedError, UpstreamError
from app.relay.stream.client import Client
from app.relay.stream.pump import TAIL_SECONDS
from app.runtime.byte_budget import UNCOUNTED_BYTES, Reservation
from app.state.items.token_estimate import estimate_bytes
from app.state.records import TokenUsage
from app.state.usage import UsageEntry
from app.upstream.call.answer import UpstreamAnswer
from app.wire import completion
from app.wire.json_body import LARGE_BYTES
from app.wire.sse import FrameSplitter, FrameTooLargeError
from app.wire.upstream_errors import parse_error

_LIMITED = 429
_BLANK_LINE = b"\n\n"


class CompletionStream:
    """Copy one stream; what it says of its usage goes to the call's entry.

    Invariant: the client receives what upstream sent, in whole frames, but for a frame of the usage alone where
    `removes_usage`, upstream's key where an error quotes it, and one error at the end of a stream that broke off.
    """

    size = 0
    """Nothing of what passed is held."""

    def __init__(
        self,
        answer: UpstreamAnswer,
        client: Client,
        entry: UsageEntry,
        *,
        answers: int,
        removes_usage: bool,
        max_event_bytes: int,
        held: Reservation,
    ) -> None:
        self._answer = answer
        self._client = client
        self._entry = entry
        self._removes_usage = removes_usage
        self._splitter = FrameSplitter(max_event_bytes)
        self._held = held
        self._counted = UNCOUNTED_BYTES
        self._text_bytes = 0
        # Of so many answers it was not said yet why they end.
        self._unended = answers
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Tell whether the last word was said: a `[DONE]` or an error."""
        return self._is_over

    def tokens(self) -> int:
        """Estimate the tokens that the client got."""
        return estimate_bytes(self._text_bytes)

    async def run(self) -> None:
        """Relay until upstream ends, or has said its last word."""
        try:
            while not self._is_over and await self._forward_next():
                if not self._is_over:
                    await self._answer.forward_ready(self._forward_now)
            if self._is_over:
                await self._forward_tail()
            else:
                await self._end_at_eof()
        except FrameTooLargeError:
            await self.fail("upstream_event_too_large", "Upstream sent an event larger than this gateway accepts.")
        except (UpstreamError, OverloadedError) as fault:
            # A connection that breaks behind the reasons of all answers took nothing with it.
            if isinstance(fault, OverloadedError) or self._unended > 0:
                await self.fail(fault.code or "server_error", fault.message)
        if self._entry.response_status is None:
            self._entry.response_status = "completed"
        await self._client.end_stream()

    async def fail(self, code: str, message: str) -> None:
        """End the stream in upstream's stead, with an error and without its `[DONE]`, unless it has ended."""
        if not self._is_over:
            self._is_over = True
            self._entry.response_status, self._entry.error_code = "failed", code
            await self._client.write(b"data: %b\n\n" % UpstreamError(message, code=code).body())
            await self._client.end_stream()

    async def _forward_tail(self) -> None:
        """Relay what upstream sends after its last word, for a short while."""
        with suppress(UpstreamError, OverloadedError, FrameTooLargeError, TimeoutError):
            async with asyncio.timeout(TAIL_SECONDS):
                while await self._forward_next():
                    pass
        if rest := self._splitter.rest:
            await self._forward([rest])

    async def _end_at_eof(self) -> None:
        """End a stream without a mark: whole where it said why it ends, else it has broken off.

        A last frame may lack its blank line; the part of one would spoil the error that follows.
        """
        rest = self._splitter.rest
        is_frame = completion.is_done(rest) or bool(completion.payload(rest))
        passed = self._inspected(rest) if is_frame else rest
        is_whole = self._is_over or self._unended <= 0
        if passed and (is_whole or is_frame):
            await self._client.write(passed if is_whole else passed + _BLANK_LINE)
        if not is_whole:
            await self.fail("upstream_disconnected", "Upstream ended the stream before the answer was finished.")

    def _forward_now(self, chunk: bytes) -> bool:
        """Relay a chunk that is one ordinary frame, as nearly all are; any other chunk is for `_forward_next`."""
        if len(chunk) >= LARGE_BYTES or not self._splitter.is_frame(chunk) or not completion.is_ordinary(chunk):
            return False
        if not self._client.write_now(chunk):
            return False
        self._count(chunk)
        return True

    async def _forward_next(self) -> bool:
        """Relay the frames that the next chunk completes; False when there is no chunk."""
        chunk = await self._answer.read()
        if not chunk:
            return False
        frames = self._splitter.feed(chunk)
        if self._splitter.size > self._counted:
            await self._held.add(self._splitter.size)
            self._counted += self._splitter.size
        await self._forward(frames)
        return True

    async def _forward(self, frames: list[bytes]) -> None:
        passed = b"".join([self._inspected(frame) for frame in frames])
        if passed:
            await self._client.write(passed)

    def _inspected(self, frame: bytes) -> bytes:
        """Return the frame as the client gets it; nothing for one that it did not ask for."""
        if completion.is_ordinary(frame):
            self._count(frame)
            return frame
        if completion.is_done(frame):
            self._is_over = True
            self._entry.response_status = self._entry.response_status or "completed"
            return frame
        chunk = completion.payload(frame)
        if completion.is_error(frame, chunk):
            return self._failed(frame, chunk)
        said = completion.facts_of_frame(chunk)
        if said.usage is not None:
            self._entry.usage = TokenUsage.of(said.usage)
            self._entry.is_metered = True
        self._count(frame)
        self._entry.service_tier = said.service_tier or self._entry.service_tier
        return b"" if self._removes_usage and completion.is_usage_alone(chunk) else frame

    def _failed(self, frame: bytes, chunk: dict[str, object]) -> bytes:
        """Note upstream's error, with which the stream has ended; its limits rest the account."""
        parsed = parse_error(chunk)
        self._is_over = True
        self._entry.response_status = "failed"
        self._entry.error_code = None if parsed is None else parsed.code
        if parsed is not None and parsed.status == _LIMITED:
            self._answer.limited(parsed)
        return self._answer.account.redacted(frame)

    def _count(self, frame: bytes) -> None:
        entry = self._entry
        self._text_bytes += completion.text_bytes(frame)
        if entry.is_metered and self._text_bytes and entry.usage is not None and not entry.usage.output_tokens:
            # What counts the prompt alone came before the answer: it is not its usage.
            entry.usage, entry.is_metered = None, False
        if self._unended > 0:
            self._unended -= completion.ended_in(frame)
        if entry.model_served is None:
            entry.model_served = completion.model_in(frame)
