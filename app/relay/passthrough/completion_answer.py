"""Give a client of chat completions the answer to a create call, as that is made: in chunks, or whole."""

from collections.abc import Callable

import orjson

from app.relay.stream.client import Connection, Message, RawHeader, Send
from app.runtime.compute_thread import ComputeThread
from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError
from app.wire.json_body import is_large
from app.wire.responses import stream_events
from app.wire.responses.as_completion import CompletionChunks, completion_of, error_of
from app.wire.sse import FrameSplitter

_LENGTH, _LABEL, _EVENT_STREAM = b"content-length", b"content-type", b"text/event-stream"
_BAD_GATEWAY = 502
_COMMENT = b":"


class CompletionAnswer:
    """Translate what a call sends through `send`, like a client connection in front of the client's own.

    Its frames are whole and were bounded before; comments pass as they are.
    """

    def __init__(
        self, send: Send, connection: Connection, compute_thread: ComputeThread, *, includes_usage: bool
    ) -> None:
        self._send = send
        self._connection = connection
        self._compute_thread = compute_thread
        self._chunks = CompletionChunks(includes_usage=includes_usage)
        self._splitter = FrameSplitter(0)
        self._head: Message = {}
        self._pieces: list[bytes] = []

    async def send(self, message: Message) -> None:
        """Send the client what this part of the answer is in chat; a whole answer waits for its end."""
        if message["type"] == "http.response.start":
            self._head = message
            if self._is_stream:
                await self._send({name: value for name, value in message.items() if name != "body"})
            if "body" not in message:
                return
        body, follows = message.get("body", b""), "body" not in self._head and message.get("more_body", False)
        if self._is_stream:
            await self._send({"type": "http.response.body", "body": await self._frames(body), "more_body": follows})
            return
        self._pieces.append(body)
        if not follows:
            await self._answer(b"".join(self._pieces))

    def push(self, body: bytes) -> bool:  # noqa: ARG002 - a piece that was translated and not taken could not be again
        """Write nothing at once: every piece goes through `send`."""
        return False

    def watch(self, on_disconnect: Callable[[], None] | None) -> None:
        """Watch the client's connection."""
        self._connection.watch(on_disconnect)

    @property
    def _is_stream(self) -> bool:
        headers: dict[bytes, bytes] = dict(self._head["headers"])
        return headers.get(_LABEL, b"").startswith(_EVENT_STREAM)

    async def _frames(self, body: bytes) -> bytes:
        return (
            await self._compute_thread.run(len(body), self._translated, body)
            if is_large(body)
            else (self._translated(body))
        )

    def _translated(self, body: bytes) -> bytes:
        passed: list[bytes] = []
        for frame in self._splitter.feed(body) if body else ():
            if frame.startswith(_COMMENT):
                passed.append(frame)
            else:
                passed += self._chunks.frames_of(stream_events.payload(frame))
        return b"".join(passed)

    async def _answer(self, body: bytes) -> None:
        status = self._head["status"]
        status, body = (
            await self._compute_thread.run(len(body), _completion, status, body)
            if is_large(body)
            else _completion(status, body)
        )
        headers: list[RawHeader] = [header for header in self._head["headers"] if header[0] != _LENGTH]
        headers.append((_LENGTH, b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _completion(status: int, body: bytes) -> tuple[int, bytes]:
    """Write a whole response as a completion, a failed one as the error that it is."""
    try:
        response = decode(body)
    except NotJsonError:
        return status, body
    if response.get("status") == "failed":
        return _BAD_GATEWAY, orjson.dumps(error_of(response.get("error") or {}))
    return status, orjson.dumps(completion_of(response))
