"""Upstream's answer, once its first bytes are here. Must not know what the bytes mean, nor ask for them again."""

from collections.abc import Callable

from app.byte_budget import UNCOUNTED_BYTES, Reserve, reserve_nothing
from app.errors import UpstreamError
from app.upstream.account import Account
from app.upstream.faults import TRANSPORT_ERRORS, broken_off, limit_of
from app.upstream.lease import Lease
from app.upstream.transport import AnswerBody
from app.wire.answer_form import EVENT_STREAM, JSON, is_event_stream
from app.wire.error_words import ErrorWords

# A whole answer is held as it came, as it is told to the client, and as its items and the row of them.
_COPIES = 3
_LABEL = b"content-type"


class UpstreamAnswer:
    """A 2xx answer, with what it keeps in use: the connection and the lease. It must be closed.

    `is_stream`: it comes as events, whatever its label says; the label that is handed on is the right one.
    """

    __slots__ = ("_body", "_error", "_first", "_lease", "account", "is_stream", "status", "told")

    def __init__(
        self,
        account: Account,
        status: int,
        headers: dict[bytes, bytes],
        *,
        first: bytes,
        body: AnswerBody,
        lease: Lease,
    ) -> None:
        self.account = account
        self.status = status
        self.told = headers
        self._first = first
        self._body = body
        self._lease = lease
        self._error: UpstreamError | None = None
        label = headers.get(_LABEL, b"")
        self.is_stream = is_event_stream(first, label)
        right = EVENT_STREAM if self.is_stream else JSON
        if not label.startswith(right) and not label.lower().startswith(right):
            headers[_LABEL] = right

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that a client may see, by lower-case name, as ASGI takes them."""
        return [*self.told.items()]

    @property
    def first(self) -> bytes:
        """What has come of the body and was not read."""
        return self._first

    def limited(self, words: ErrorWords) -> None:
        """Have the account rest once the answer is closed: it has met a limit, in these words."""
        self._lease.fault = limit_of(words)

    async def read_soon(self, seconds: float) -> bool:
        """Have more of the body in `first`, if it comes within this time."""
        more = await self._body.read_soon(seconds)
        self._first += more
        return bool(more)

    async def read_ahead(self) -> bool:
        """Have more of the body in `first`; whether there was more. What goes wrong is for the next reader."""
        try:
            more = b"" if self._body.is_over else await self._body.read()
        except TRANSPORT_ERRORS as exception:
            self._error = broken_off(exception)
            return False
        self._first += more
        return bool(more)

    async def read(self) -> bytes:
        """The next bytes of the body as they came, for one task; none at its end. Raises UpstreamBrokenError."""
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._error is not None:
            raise self._error
        try:
            return await self._body.read()
        except TRANSPORT_ERRORS as exception:
            raise broken_off(exception) from exception

    async def read_whole(self, max_bytes: int, reserve: Reserve = reserve_nothing) -> bytes:
        """The body to its end, for which bytes are reserved as it comes.

        Raises UpstreamBrokenError, UpstreamError when it is longer than that, and what `reserve` raises.
        """
        first, self._first = self._first, b""
        chunks, room = [first], max_bytes - len(first)
        counted = max_bytes - UNCOUNTED_BYTES
        # A whole answer is usually here with its head.
        while room >= 0 and not self._body.is_over and (chunk := await self.read()):
            chunks.append(chunk)
            room -= len(chunk)
            if room < counted:
                # As much again as there is: it is asked for a few times, and upstream waits meanwhile.
                more = max(max_bytes - room, len(chunk))
                await reserve(more * _COPIES)
                counted -= more
        if room < 0:
            raise UpstreamError("Upstream's answer is larger than this gateway accepts.", code="upstream_too_large")
        return b"".join(chunks) if len(chunks) > 1 else first

    def rewritten(self, headers: dict[bytes, bytes], body: bytes) -> "UpstreamAnswer":
        """The answer, read to its end, with a body in the place of its own. Whoever takes it closes both."""
        return UpstreamAnswer(self.account, self.status, headers, first=body, body=self._body, lease=self._lease)

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hand chunks to `take` as they come off the wire, until it declines one, which is read next, or the end.

        No task is woken for them. A transport that cannot do this hands over nothing.
        """
        if not self._first:
            await self._body.pour(take)

    async def aclose(self) -> None:
        """Close the connection and return the lease. Never raises; may be called again."""
        self._lease.end()
        await self._body.aclose()
