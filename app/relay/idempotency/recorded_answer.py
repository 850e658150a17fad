"""Record an answer while it is made, for any number of clients that read it from its beginning, each at its own pace.

The call that makes it depends on none of them: it goes on when its client leaves, so that a repeat finds the answer.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self

from app.errors import ApiError, UpstreamError
from app.relay.stream.client import Client, Connection, Message, Send
from app.runtime.byte_budget import Reservation
from app.state.idempotency import Answer, RawHeader
from app.wire.sse import KEEP_ALIVE

_LABEL, _LENGTH, _RATE_LIMITS = b"content-type", b"content-length", b"x-ratelimit-"
_EVENT_STREAM = b"text/event-stream"


class FirstClient(NamedTuple):
    """Hold the client whose call it is."""

    send: Send
    connection: Connection


class BrokenOffError(Exception):
    """End a client's stream: the recorded call broke off, and its answer has no end."""


class RecordedAnswer:
    """Record what a call sends through `send` and `push`, like a client connection; `send_to` replays it to clients.

    The record is held by this reservation, and has at most `max_bytes`: more is an UpstreamError, once. Comments that
    fill silence are each client's own. The answer is whole when the maker of the call says so (`end`).
    """

    def __init__(self, first: FirstClient | None, held: Reservation, max_bytes: int) -> None:
        self._first = first
        self._direct: FirstClient | None = None
        self._held = held
        self._room = max_bytes
        self._is_full = False
        self._head: tuple[int, Sequence[RawHeader]] | None = None
        self._pieces: list[bytes] = []
        self._is_over = False
        self._is_forgotten = False
        self._changed = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Record a part of the answer."""
        if self._direct is not None:
            await self._direct.send(message)
            return
        if message["type"] == "http.response.start":
            self._head = message["status"], tuple(message["headers"])
            self._wake()
        body = message.get("body")
        if body and body != KEEP_ALIVE:
            await self._take(body)

    def push(self, body: bytes) -> bool:
        """Write a piece without waiting, where the first client reads alone; False while it is recorded."""
        return self._direct is not None and self._direct.connection.push(body)

    def watch(self, on_disconnect: Callable[[], None] | None) -> None:
        """Watch the first client where it reads alone; no other client that leaves ends the call."""
        if self._direct is not None:
            self._direct.connection.watch(on_disconnect)

    def hand_over(self) -> None:
        """Send what follows to the first client alone, and record nothing. Repeats have to look again."""
        self._direct = self._first
        self.forget()

    @property
    def is_handed_over(self) -> bool:
        """Tell whether the first client reads alone."""
        return self._direct is not None

    def refuse(self, error: ApiError) -> None:
        """Record this error as the answer."""
        self._head = (
            error.status,
            [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in {"content-type": "application/json", **error.answer_headers()}.items()
            ],
        )
        self._pieces = [error.body()]

    def end(self) -> None:
        """Mark the answer as whole."""
        self._is_over = True
        self._wake()

    def forget(self) -> None:
        """Mark that there will be no answer: its clients look again for one."""
        self._is_forgotten = True
        self.end()

    def kept(self, object_id: str | None, most: int) -> Answer:
        """Return the answer to be saved, of this response or conversation: its body if it has at most so many bytes."""
        status, headers = self._head or (0, ())
        body = b"".join(self._pieces) if sum(map(len, self._pieces)) <= most else None
        return Answer(status, headers, body, object_id)

    @classmethod
    def of(cls, answer: Answer, held: Reservation) -> Self:
        """Make a record of an answer that was kept."""
        recorded = cls(None, held, 0)
        recorded._head, recorded._pieces = (answer.status, answer.headers), [answer.body or b""]
        recorded.end()
        return recorded

    async def send_to(self, client: Client, instead: Iterable[RawHeader] | None = None) -> bool:
        """Send the client the answer, as it comes; False where there is none.

        The headers `instead` replace those that told the first client what is left of its limits. Raises
        BrokenOffError.
        """
        while self._head is None and not self._is_over:
            await self._changed.wait()
        if self._head is None:
            return False
        status, headers = self._head
        left_out = (_LENGTH,) if instead is None else (_LENGTH, _RATE_LIMITS)
        sent = [header for header in headers if not header[0].startswith(left_out)] + [*(instead or ())]
        if not dict(headers).get(_LABEL, b"").startswith(_EVENT_STREAM):
            while not self._is_over:
                await self._changed.wait()
            if not self._is_forgotten:
                await client.answer(status, sent, b"".join(self._pieces))
            return not self._is_forgotten
        await client.begin_stream(status, sent)
        number = 0
        while number < len(self._pieces) or not self._is_over:
            if number == len(self._pieces):
                await self._changed.wait()
                continue
            await client.write(self._pieces[number])
            number += 1
        if self._is_forgotten:
            raise BrokenOffError
        await client.end_stream()
        return True

    async def _take(self, piece: bytes) -> None:
        self._room -= len(piece)
        if self._room < 0 and not self._is_full:
            # The error event that follows is still recorded.
            self._is_full = True
            raise UpstreamError(
                "Upstream's answer is larger than this gateway accepts with an idempotency key.",
                code="upstream_too_large",
            )
        await self._held.add(len(piece))
        self._pieces.append(piece)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
