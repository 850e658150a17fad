"""Translate the chunks of a chat stream to the events of a response, whatever their cuts, order and gaps."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import orjson

from app.settings.upstreams import ChatProfile
from app.state.items.token_estimate import estimate_items
from app.upstream.chat import reasoning
from app.upstream.chat.call_fragments import CallFragments, ToolCall
from app.upstream.chat.chunks import citations, list_in, only_member, probabilities, read_chunk
from app.upstream.chat.errors import ChatError
from app.upstream.chat.output_events import OutputEvents
from app.upstream.chat.request import ChatRequest
from app.wire import sse
from app.wire.completion_usage import as_usage, usage_in
from app.wire.json_body import HUGE_BYTES, LARGE_BYTES
from app.wire.sse import FrameSplitter, FrameTooLargeError
from app.wire.upstream_errors import response_error

_DONE = b"[DONE]"
_CUT_OFF = frozenset({"length", "max_tokens", "model_length"})
_FILTERED = frozenset({"content_filter", "sensitive", "safety"})
_FAILED = "error"
# The last second that a date has.
_LAST_SECOND = 253_402_300_799
_TOO_LARGE = ChatError("Upstream's answer is larger than this gateway accepts. (upstream_too_large)", "server_error")
_EARLY = ChatError("Upstream ended the stream before the response was finished.", "server_error")
_EMPTY = ChatError("Upstream's completion has no choices.", "server_error")
_NAMELESS = ChatError("The model called a tool without a name.", "server_error")
_STOPPED = ChatError("The model's provider stopped with an error.", "server_error")

Step: TypeAlias = tuple[int, Callable[[], None]]
"""A piece of work, and the bytes that it takes where they are many; else 0."""


class ChatStream:
    """Translate one answer: do the `steps` of its chunks, and the `last_steps`; `taken` are the events so far.

    `has_begun`: a choice has come. `fault` is the error that came in its place, and nothing else follows. `has_reason`:
    the choice is over, and only its usage may follow. `is_over`: the last event was written.
    """

    def __init__(
        self,
        request: ChatRequest,
        profile: ChatProfile,
        upstream: str,
        seal: Callable[[bytes], str],
        max_bytes: int,
        *,
        is_silent: bool = False,
    ) -> None:
        self._request = request
        self._upstream = upstream
        self._events = OutputEvents(request.echoed, seal, profile.reasoning_as, is_silent=is_silent)
        self._splitter = FrameSplitter(max_bytes)
        self._max_bytes = self._room = max_bytes
        # The one member that the last delta of a huge stream set.
        self._member = ""
        self._tags = reasoning.TagSplitter(profile.think_tags)
        self._has_tags = profile.think_tags != "off"
        self._fragments = CallFragments()
        self._usage: Mapping[str, Any] | None = None
        self._reason: str | None = None
        self.has_begun = False
        self.is_over = False
        self.fault: ChatError | None = None

    @property
    def response(self) -> dict[str, Any]:
        """Return the response object, whole once the stream is over."""
        return self._events.response

    @property
    def has_reason(self) -> bool:
        """Tell whether the choice has ended."""
        return self._reason is not None

    @property
    def held(self) -> int:
        """Return how many bytes have come: what was said in them is held until the end."""
        return self._max_bytes - self._room

    def steps(self, chunk: bytes) -> Iterator[Step]:
        """Yield the work on the frames that this chunk completes, each to be done before the next is asked for."""
        self._room -= len(chunk)
        try:
            frames = self._splitter.feed(chunk)
        except FrameTooLargeError:
            frames, self._room = [], -1
        yield from ((self._large_bytes(frame), partial(self._read, frame)) for frame in frames)
        if self._room < 0:
            yield self.held, partial(self._fail, _TOO_LARGE)

    def last_steps(self) -> Iterator[Step]:
        """Yield the work that the end of the bytes leaves."""
        rest = self._splitter.rest
        yield self._large_bytes(rest), partial(self._read, rest)
        yield self._large_bytes(b""), partial(self.end, is_told=False)

    def taken(self) -> bytes:
        """Return the events that were written since they were last taken."""
        frames, self._events.frames = self._events.frames, []
        return b"".join(frames)

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that this chunk completes, with all the work done here."""
        return self._done(self.steps(chunk))

    def finish(self) -> bytes:
        """Return the events that the end of the bytes completes."""
        return self._done(self.last_steps())

    def whole(self, body: bytes) -> bytes:
        """Return the response that a whole completion is; the error where it is none, or reports one."""
        document, error = read_chunk(body) if len(body) <= self._max_bytes else ({}, _TOO_LARGE)
        if error is None:
            self.take(document)
            self.end(is_told=True)
            error = self.fault
        return orjson.dumps(self.response) if error is None else error.body_under_success()

    def text_event(self, chunk: bytes) -> tuple[bytes, str] | None:
        """Return the event and the text of a chunk that only continues the text; None where it may do more.

        Nothing is remembered of it before `text_was_sent`.
        """
        if self._has_tags or self.is_over or not self._splitter.is_frame(chunk) or self._room < len(chunk):
            return None
        name, text = only_member(chunk)
        if name != "content" or not isinstance(text, str):
            return None
        event = self._events.text_frame(text)
        return None if event is None else (event, text)

    def text_was_sent(self, chunk: bytes, text: str) -> None:
        """Remember the text of `text_event`, whose event was sent."""
        self._room -= len(chunk)
        self._events.text_was_sent(text)

    def take(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk, or a whole completion."""
        self._usage = usage_in(chunk) or self._usage
        if isinstance(chunk.get("service_tier"), str):
            self.response["service_tier"] = chunk["service_tier"]
        choice = next(iter(list_in(chunk, "choices")), None)
        if not isinstance(choice, dict):
            return
        self._begin(chunk)
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._take_delta(delta, choice)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._reason = reason

    def end(self, *, is_told: bool) -> None:
        """End the response as the choice ended; without a reason for that, and not `is_told`, it has failed."""
        if self.is_over:
            return
        if not self.has_begun:
            self._fail(_EMPTY)
            return
        thought, text = self._tags.feed("", is_last=True)
        self._say(thought, None, text, ())
        for call in self._fragments.calls:
            if call.place is None and not call.name:
                self._fail(_NAMELESS)
                return
            if call.place is None:
                self._open(call)
        kinds = {item["type"] for item in self._events.output}
        if (self._reason is None and (not is_told or not kinds)) or self._reason == _FAILED:
            self._fail(_STOPPED if self._reason else _EARLY)
        elif self._reason in _CUT_OFF:
            self._end("incomplete", "max_output_tokens")
        elif self._reason in _FILTERED:
            self._end("incomplete", "content_filter")
        else:
            if kinds <= {"reasoning"}:
                # An answer of nothing is an answer.
                self._events.text("")
            self._end("completed")

    def _large_bytes(self, frame: bytes) -> int:
        """Return the bytes that this frame may have to be read with, where they are many.

        Where a part or the response ends, all that it has said is written again; not where a delta continues another.
        """
        if len(frame) >= LARGE_BYTES:
            return self.held
        if self.held < HUGE_BYTES or self.is_over:
            return 0
        before, (self._member, _) = self._member, only_member(frame)
        return 0 if self._member and self._member == before and not self._has_tags else self.held

    def _read(self, frame: bytes) -> None:
        data = sse.event_data(frame).strip()
        if not data or self.is_over:
            return
        if data == _DONE:
            self.end(is_told=True)
            return
        chunk, error = read_chunk(data, is_error=sse.event_name(frame) == b"error")
        if error is None:
            self.take(chunk)
        else:
            self._fail(error)

    def _begin(self, chunk: Mapping[str, Any]) -> None:
        if self.has_begun:
            return
        self.has_begun = True
        model, created = chunk.get("model"), chunk.get("created")
        if isinstance(model, str) and model:
            self.response["model"] = model
        if type(created) is int and 0 < created <= _LAST_SECOND:
            self.response["created_at"] = created
        self._events.begin()

    def _take_delta(self, delta: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        thought, member = reasoning.read(delta)
        tagged, text = self._tags.feed(reasoning.content_of(delta))
        self._say(thought, member, "", (), delta.get("reasoning_details"))
        self._say(tagged, None, text, probabilities(choice) if self._request.has_logprobs else ())
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._events.refusal(refusal)
        for cited in citations(delta):
            self._events.citation(cited)
        legacy = delta.get("function_call")
        fragments = [{"index": 0, "function": legacy}] if isinstance(legacy, dict) else list_in(delta, "tool_calls")
        for call, said in self._fragments.feed(fragments):
            if call.place is not None:
                self._events.arguments(call, said)
            elif call.name and call.arguments:
                # The name is known to be whole once arguments follow.
                self._open(call)

    def _say(self, thought: str, member: str | None, text: str, logprobs: Sequence[Any], details: Any = None) -> None:
        has_details = isinstance(details, list) and bool(details)
        if thought or has_details:
            thoughts = self._events.reasoning(thought, self._upstream)
            thoughts.told_in = member or thoughts.told_in
            if has_details:
                thoughts.add_details(details)
        if text:
            self._events.text(text, logprobs)

    def _open(self, call: ToolCall) -> None:
        if call.extra is not None:
            # Its provider wants this back with the call: it is kept in the reasoning that comes before.
            self._events.reasoning("", self._upstream).extras[call.call_id] = call.extra
        self._events.call(call, self._request.offer.restored(call.name))

    def _fail(self, error: ChatError) -> None:
        """End the response with this error; before it began, the error takes its place."""
        if self.is_over:
            return
        self.is_over = True
        if not self.has_begun:
            self.fault = error
            return
        usage = None if self._usage is None else as_usage(self._usage, 0, 0)
        self._events.end("failed", usage=usage, error=response_error(error))

    def _end(self, status: str, reason: str | None = None) -> None:
        self.is_over = True
        made = 0 if self._usage else estimate_items(map(orjson.dumps, self._events.output))
        self._events.end(status, reason=reason, usage=as_usage(self._usage, self._request.input_tokens, made))

    def _done(self, steps: Iterable[Step]) -> bytes:
        for _, work in steps:
            work()
        return self.taken()
