"""Upstream's answer, once its first bytes are here. Must not know what the bytes mean, nor ask for them again."""

from collections.abc import AsyncIterator, Callable, Mapping

import httpx

from app.errors import UpstreamError
from app.upstream.account import Account
from app.upstream.faults import TRANSPORT_ERRORS, broken_off
from app.upstream.lease import Lease
from app.upstream.response_body import ResponseBody


class UpstreamAnswer:
    """A 2xx answer, with what it keeps in use: the connection and the lease. It must be closed."""

    __slots__ = ("_body", "_chunks", "_first", "_lease", "account", "status", "told")

    def __init__(
        self,
        account: Account,
        status: int,
        headers: Mapping[bytes, bytes],
        *,
        first: bytes,
        chunks: AsyncIterator[bytes],
        body: httpx.AsyncByteStream,
        lease: Lease,
    ) -> None:
        self.account = account
        self.status = status
        self.told = headers
        self._first = first
        self._chunks = chunks
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
            return await anext(self._chunks, b"")
        except TRANSPORT_ERRORS as exception:
            raise broken_off(exception) from exception

    async def read_whole(self, max_bytes: int) -> bytes:
        """The body to its end. Raises UpstreamBrokenError, and UpstreamError when it is longer than that."""
        chunks: list[bytes] = []
        room = max_bytes
        while chunk := await self.read():
            chunks.append(chunk)
            room -= len(chunk)
            if room < 0:
                raise UpstreamError("Upstream's answer is larger than this gateway accepts.", code="upstream_too_large")
        return b"".join(chunks)

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hand chunks to `take` as they come off the wire, until it declines one, which is read next, or the end.

        No task is woken for them. A transport that cannot do this hands over nothing.
        """
        if isinstance(self._body, ResponseBody) and not self._first:
            await self._body.pour(take)

    async def aclose(self) -> None:
        """Close the connection and return the lease. Never raises; may be called again."""
        self._lease.end()
        await close(self._body)


async def close(body: httpx.AsyncByteStream) -> None:
    """Close the body, and the connection if it has more to send. Never raises."""
    try:
        await body.aclose()
    # RuntimeError: the body is being read by another task, which the closed connection ends.
    except (*TRANSPORT_ERRORS, RuntimeError):
        return
