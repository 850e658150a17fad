"""Open a tunnel through a proxy with CONNECT, and read the proxy's answer (RFC 9110 9.3.6)."""

import asyncio
import re
from typing import cast

import httpx

_MAX_ANSWER_BYTES = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_VERSION = b"HTTP/1."
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
# The longest end of a head without its last byte.
_OVERLAP = 3
_SWITCHING_PROTOCOLS = 101


class ProxyRefusedError(httpx.ProxyError):
    """Report that the proxy answered without opening a tunnel. `status` is the answer's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The proxy refused the tunnel with HTTP {status}.")
        self.status = status


class ProxyTunnel(asyncio.Protocol):
    """Speak to a proxy over a connection until the tunnel is open.

    A 2xx answer ends with its head: Content-Length and Transfer-Encoding mean nothing in it. The bytes that follow come
    from the server behind, which in TLS sends nothing before the client does, so early bytes are dropped.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer = bytearray()
        self._searched = 0
        self._received = 0

    async def open(self, head: bytes) -> asyncio.Transport:
        """Send this request; return the transport that leads through the tunnel. Raises httpx.ProxyError."""
        if self.transport is None:
            raise httpx.ProxyError("The proxy closed the connection.")
        self.transport.write(head)
        await self._opened
        return self.transport

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._opened.done():
            return
        self._received += len(data)
        self._answer += data
        try:
            is_open = self._read()
        except httpx.ProxyError as error:
            self._opened.set_exception(error)
        else:
            if is_open:
                self._opened.set_result(None)

    def eof_received(self) -> None:
        self._lost()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._lost()
        self.transport = None

    def _read(self) -> bool:
        """Parse the answer; return whether the tunnel is open. Heads of 1xx answers are skipped."""
        if self._answer[: len(_VERSION)] != _VERSION[: len(self._answer)]:
            raise httpx.ProxyError("The proxy did not answer in valid HTTP.")
        while end := _END_OF_HEAD.search(self._answer, self._searched):
            line = _STATUS_LINE.match(self._answer)
            if line is None:
                raise httpx.ProxyError("The proxy did not answer in valid HTTP.")
            status = int(line[1])
            if httpx.codes.is_success(status):
                return True
            if not httpx.codes.is_informational(status) or status == _SWITCHING_PROTOCOLS:
                raise ProxyRefusedError(status)
            del self._answer[: end.end()]
            self._searched = 0
        if self._received > _MAX_ANSWER_BYTES:
            raise httpx.ProxyError("The head of the proxy's answer is too large.")
        self._searched = max(0, len(self._answer) - _OVERLAP)
        return False

    def _lost(self) -> None:
        if not self._opened.done():
            self._opened.set_exception(httpx.ProxyError("The proxy closed the connection without an answer."))
            # Mark the error as retrieved: nobody may be waiting for it.
            self._opened.exception()
