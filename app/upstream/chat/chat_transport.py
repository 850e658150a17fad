"""Carry Responses calls to an upstream that speaks chat completions alone, as a transport around another."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.errors import InvalidRequestError
from app.observability.logging import note
from app.runtime.byte_budget import UNCOUNTED_BYTES, Reserve, reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.settings.upstreams import UpstreamSettings
from app.upstream.chat.errors import refused
from app.upstream.chat.profile import profile_of
from app.upstream.chat.reasoning import Sealer, opened
from app.upstream.chat.request import ChatRequest, chat_request
from app.upstream.chat.stream import ChatStream, Step
from app.upstream.transport import Answer, AnswerBody, Ask, RawHeaders, Transport, UnfitRequestError, UpstreamRequest
from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError
from app.wire.json_body import is_large
from app.wire.responses.stream_detection import EVENT_STREAM, JSON, is_event_stream

_RESPONSES, _COMPLETIONS = "/responses", "/chat/completions"
_OWN_HEADERS = frozenset({b"content-length", b"content-type", b"transfer-encoding"})
_MAX_ERROR_BYTES = 64 * 1024
# What a server says is held as it came, and as it is written.
_COPIES = 2
# What follows the end of a choice, its usage, comes at once.
_USAGE_SECONDS = 2.0


@dataclass(slots=True)
class _Call:
    """Hold what the answer to one call is read by."""

    request: ChatRequest
    stream: Callable[..., ChatStream]
    reserve: Reserve


class ChatTransport:
    """Translate each call to `/responses` for the `inner` transport, and its answer back; pass all other calls on.

    Large bodies are translated in the compute thread. An error that comes in place of a stream's first chunk is an
    answer with the error's status, so that another account can be asked. It owns nothing: `inner` is closed by whoever
    made it.
    """

    def __init__(
        self,
        inner: Transport,
        upstream: UpstreamSettings,
        sealer: Sealer,
        compute_thread: ComputeThread,
        max_answer_bytes: int,
    ) -> None:
        self._inner = inner
        self._name = upstream.name
        self._profile = profile_of(upstream)
        self._sealer = sealer
        self._compute_thread = compute_thread
        self._max_answer_bytes = max_answer_bytes

    def prepare(self, request: UpstreamRequest) -> Ask:
        path = request.url.path
        if request.method != "POST" or not path.endswith(_RESPONSES):
            return self._inner.prepare(request)
        url = request.url.copy_with(path=path.removesuffix(_RESPONSES) + _COMPLETIONS, query=None)
        ask_inner = self._inner.prepare(replace(request, url=url))

        async def ask(body: bytes, more: RawHeaders, tenant: str = "", reserve: Reserve = reserve_nothing) -> Answer:
            call = await self._run(body, self._translated, body, tenant, reserve)
            answer = await ask_inner(call.request.release(), more)
            try:
                translated = await self._answer(answer, call)
            except BaseException:
                # Also a cancelled caller leaves no connection behind.
                await answer.body.aclose()
                raise
            if translated.is_success and call.request.dropped:
                note(dropped=call.request.told)
            return translated

        return ask

    async def aclose(self) -> None:
        pass

    async def _run(self, body: bytes, work: Callable[..., Any], *args: Any) -> Any:
        """Work on this body here, or in the compute thread where it is large."""
        return await self._compute_thread.run(len(body), work, *args) if is_large(body) else work(*args)

    def _translated(self, body: bytes, tenant: str, reserve: Reserve) -> _Call:
        """Translate a request. Raises UnfitRequestError."""
        try:
            fields = decode(body)
        except NotJsonError:
            raise InvalidRequestError("The request is not JSON.", code="invalid_json") from None
        open_thoughts = partial(opened, upstream=self._name, open_=partial(self._sealer.open, tenant))
        try:
            request = chat_request(fields, self._profile, open_thoughts)
        except UnfitRequestError as error:
            given = fields.get("input")
            error.items = len(given) if isinstance(given, list) else 0
            raise
        seal = partial(self._sealer.seal, tenant)
        stream = partial(ChatStream, request, self._profile, self._name, seal, self._max_answer_bytes)
        return _Call(request, stream, reserve)

    async def _answer(self, answer: Answer, call: _Call) -> Answer:
        """Return the answer as one of the Responses API, once it is known what it is."""
        if not answer.is_success:
            return self._refusal(answer)
        first = answer.body.take() or await answer.body.read()
        label = next((value for name, value in answer.headers if name.lower() == b"content-type"), b"")
        dropped = call.request.told.encode()
        if not first or not is_event_stream(first, label):
            translate = call.stream(is_silent=True).whole
            most = self._max_answer_bytes
            body = _WholeBody(answer.body, first, translate, self._run, max_bytes=most, reserve=call.reserve)
            return Answer(answer.status, _headers(answer.headers, JSON), body, dropped)
        stream = call.stream()
        events = _StreamBody(answer.body, stream, self._compute_thread, call.reserve)
        await events.do(stream.steps(first))
        while not (stream.has_begun or stream.is_over):
            more = await answer.body.read()
            await events.do(stream.steps(more) if more else stream.last_steps())
        if stream.fault is not None:
            await answer.body.aclose()
            events.end_with(stream.fault.body(stream.fault.status))
            return Answer(stream.fault.status, _headers(answer.headers, JSON), events)
        return Answer(answer.status, _headers(answer.headers, EVENT_STREAM), events, dropped)

    def _refusal(self, answer: Answer) -> Answer:
        """Return the answer of a server that refuses; its body, once it is read, may say another status."""

        def translate(body: bytes) -> bytes:
            refusal.status, translated = refused(answer.status, body)
            return translated

        body = _WholeBody(answer.body, b"", translate, self._run, max_bytes=_MAX_ERROR_BYTES, reserve=reserve_nothing)
        status, _ = refused(answer.status, b"")
        refusal = Answer(status, _headers(answer.headers, JSON), body)
        return refusal


def _headers(headers: RawHeaders, label: bytes) -> RawHeaders:
    return [*((name, value) for name, value in headers if name.lower() not in _OWN_HEADERS), (b"content-type", label)]


class _Held:
    """Reserve what is held of one answer, as much again as there is each time: that takes few reservations."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._counted = UNCOUNTED_BYTES

    async def grow(self, size: int) -> None:
        """Reserve this size, where that is more than was counted. Raises as `reserve` does."""
        if size > self._counted:
            await self._reserve(size * _COPIES)
            self._counted += size


class _StreamBody:
    """Read a chat stream as the events of a response; what is large is translated in the compute thread."""

    def __init__(self, inner: AnswerBody, stream: ChatStream, compute_thread: ComputeThread, reserve: Reserve) -> None:
        self._inner = inner
        self._stream = stream
        self._compute_thread = compute_thread
        self._held = _Held(reserve)
        self._events = b""
        self._is_finished = False

    @property
    def is_over(self) -> bool:
        return self._is_finished and not self._events

    def take(self) -> bytes:
        events, self._events = self._events, b""
        return events

    async def read(self) -> bytes:
        while not self._events and not self._is_finished:
            if self._stream.has_reason and not self._stream.is_over:
                # A server that neither says that it is done nor closes has said all that it will.
                chunk = await self._inner.read_soon(_USAGE_SECONDS)
            else:
                chunk = await self._inner.read()
            await self._take(chunk)
        return self.take()

    async def read_soon(self, seconds: float) -> bytes:
        if not self._events and not self._is_finished:
            chunk = await self._inner.read_soon(seconds)
            if chunk or self._inner.is_over:
                await self._take(chunk)
        return self.take()

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        if self._events or self._is_finished:
            return

        def translate(chunk: bytes) -> bool:
            found = self._stream.text_event(chunk)
            if found is None or not take(found[0]):
                return False
            self._stream.text_was_sent(chunk, found[1])
            return True

        await self._inner.forward_ready(translate)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def end_with(self, body: bytes) -> None:
        """Have this read and nothing else: the stream is over, and its connection closed."""
        self._events, self._is_finished = body, True

    async def do(self, steps: Iterable[Step]) -> None:
        """Do this work on the stream, what is large of it in the compute thread."""
        for large, work in steps:
            if large:
                await self._compute_thread.run(large, work)
            else:
                work()
        self._events += self._stream.taken()
        await self._held.grow(self._stream.held)

    async def _take(self, chunk: bytes) -> None:
        """Translate what came; nothing is the end, of the response or of the body."""
        if not chunk:
            self._is_finished = self._stream.is_over or self._inner.is_over or not self._stream.has_reason
        await self.do(self._stream.steps(chunk) if chunk else self._stream.last_steps())


class _WholeBody:
    """Read a whole body, translated once it is here; blanks before it pass at once, as signs of life.

    A larger body than `max_bytes` is translated as far as it was read. Invariant: a read that is cancelled loses
    nothing.
    """

    def __init__(
        self,
        inner: AnswerBody,
        first: bytes,
        translate: Callable[[bytes], bytes],
        run: Callable[..., Any],
        *,
        max_bytes: int,
        reserve: Reserve,
    ) -> None:
        self._inner = inner
        self._body = bytearray(first)
        self._max_bytes = max_bytes
        self._held = _Held(reserve)
        self._translate = translate
        self._run = run
        self.is_over = False

    def take(self) -> bytes:
        return b""

    async def read(self) -> bytes:
        if self.is_over:
            return b""
        while True:
            if self._body.isspace():
                blanks = bytes(self._body)
                self._body.clear()
                return blanks
            await self._held.grow(len(self._body))
            is_whole = self._inner.is_over or len(self._body) > self._max_bytes
            if is_whole or not (chunk := await self._inner.read()):
                break
            self._body += chunk
        body = bytes(self._body)
        translated: bytes = await self._run(body, self._translate, body) if body else b""
        self.is_over = True
        self._body.clear()
        return translated

    async def read_soon(self, seconds: float) -> bytes:  # noqa: ARG002 - a whole body is of no use in parts
        return b""

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        pass

    async def aclose(self) -> None:
        await self._inner.aclose()
