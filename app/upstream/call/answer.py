"""Hold an upstream's 2xx answer whose first bytes have come, until its body is read and it is closed."""

from collections.abc import Callable

from app.errors import UpstreamError
from app.runtime.byte_budget import UNCOUNTED_BYTES, Reserve, reserve_nothing
from app.upstream.account import Account
from app.upstream.faults.classification import TRANSPORT_ERRORS, error_of_broken_body, fault_of_limit
from app.upstream.pool.checkout import Checkout
from app.upstream.transport import AnswerBody
from app.wire.responses.stream_detection import EVENT_STREAM, JSON, is_event_stream
from app.wire.upstream_errors import ParsedError

# A whole answer is held as it came, as the client gets it, and as its items and the row of them.
_COPIES = 3
_LABEL = b"content-type"


class UpstreamAnswer:
    """Keep a 2xx answer's connection and checkout in use until it is closed, which it must be.

    `is_stream`: the body is events, whatever its content type says; the content type is corrected for the client.
    """

    __slots__ = ("_body", "_checkout", "_error", "_first", "account", "client_headers", "is_stream", "status")

    def __init__(
        self,
        account: Account,
        status: int,
        headers: dict[bytes, bytes],
        *,
        first: bytes,
        body: AnswerBody,
        checkout: Checkout,
    ) -> None:
        self.account = account
        self.status = status
        self.client_headers = headers
        self._first = first
        self._body = body
        self._checkout = checkout
        self._error: UpstreamError | None = None
        label = headers.get(_LABEL, b"")
        self.is_stream = is_event_stream(first, label)
        right = EVENT_STREAM if self.is_stream else JSON
        if not label.startswith(right) and not label.lower().startswith(right):
            headers[_LABEL] = right

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that a client may see, by lower-case name, as ASGI takes them."""
        return [*self.client_headers.items()]

    @property
    def first(self) -> bytes:
        """Return the bytes of the body that have come and were not read."""
        return self._first

    def limited(self, parsed: ParsedError) -> None:
        """Have the account cool down once the answer is closed: it met this limit amid the answer."""
        self._checkout.fault = fault_of_limit(parsed)

    async def read_soon(self, seconds: float) -> bool:
        """Add more of the body to `first`, if it comes within this time; return whether it did."""
        more = await self._body.read_soon(seconds)
        self._first += more
        return bool(more)

    async def read_ahead(self) -> bool:
        """Add more of the body to `first`; return whether there was more. An error is kept for the next reader."""
        try:
            more = b"" if self._body.is_over else await self._body.read()
        except TRANSPORT_ERRORS as exception:
            self._error = error_of_broken_body(exception)
            return False
        self._first += more
        return bool(more)

    async def read(self) -> bytes:
        """Return the next bytes as they came, to one task; nothing at the end. Raises UpstreamBrokenError."""
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._error is not None:
            raise self._error
        try:
            return await self._body.read()
        except TRANSPORT_ERRORS as exception:
            raise error_of_broken_body(exception) from exception

    async def read_whole(self, max_bytes: int, reserve: Reserve = reserve_nothing) -> bytes:
        """Read the body to its end, reserving bytes as they come.

        Raises UpstreamBrokenError, UpstreamError for more than `max_bytes`, and what `reserve` raises.
        """
        first, self._first = self._first, b""
        chunks, room = [first], max_bytes - len(first)
        counted = max_bytes - UNCOUNTED_BYTES
        while room >= 0:
            if room < counted:
                # Reserve as much again as there is: that takes few reservations, and upstream waits during each.
                await reserve((max_bytes - room) * _COPIES)
                counted -= max_bytes - room
            # A whole answer is usually here with its head.
            if self._body.is_over or not (chunk := await self.read()):
                break
            chunks.append(chunk)
            room -= len(chunk)
        if room < 0:
            raise UpstreamError("Upstream's answer is larger than this gateway accepts.", code="upstream_too_large")
        return b"".join(chunks) if len(chunks) > 1 else first

    def rewritten(self, headers: dict[bytes, bytes], body: bytes) -> "UpstreamAnswer":
        """Replace the body of an answer that was read to its end. Closing the new answer closes this one."""
        return UpstreamAnswer(self.account, self.status, headers, first=body, body=self._body, checkout=self._checkout)

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        """Hand chunks to `take` as they come off the wire, until it declines one, which is read next, or the end.

        No task is woken. A transport that cannot do this hands over nothing.
        """
        if not self._first:
            await self._body.forward_ready(take)

    async def aclose(self) -> None:
        """Close the connection and return the checkout. Never raises; may be called again."""
        self._checkout.end()
        await self._body.aclose()
