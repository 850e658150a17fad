"""Upstream's answer, once its first bytes are here. Must not know what the bytes mean, nor ask for them again."""

from collections.abc import Callable, Mapping

from app.byte_budget import UNCOUNTED_BYTES, Reserve, reserve_nothing
from app.errors import UpstreamError
from app.upstream.account import Account
from app.upstream.faults import TRANSPORT_ERRORS, broken_off
from app.upstream.lease import Lease
from app.upstream.transport import AnswerBody

# A whole answer is held as it came, as it is told to the client, and as its items and the row of them.
_COPIES = 3


class UpstreamAnswer:
    """A 2xx answer, with what it keeps in use: the connection and the lease. It must be closed."""

    __slots__ = ("_body", "_first", "_lease", "account", "status", "told")

    def __init__(
        self,
        account: Account,
        status: int,
        headers: Mapping[bytes, bytes],
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

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that a client may see, by lower-case name, as ASGI takes them."""
        return [*self.told.items()]

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; empty when upstream names none."""
        return self.told.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

    async def read(self) -> bytes:
        """The next bytes of the body as they came, for one task; none at its end. Raises UpstreamBrokenError."""
        if self._first:
            first, self._first = self._first, b""
            return first
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

    def rewritten(self, headers: Mapping[bytes, bytes], body: bytes) -> "UpstreamAnswer":
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
