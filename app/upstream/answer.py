"""Upstream's answer, once its first bytes are here. Must not know what the bytes mean, nor ask for them again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress

from app.upstream.account import Account
from app.upstream.faults import TRANSPORT_ERRORS, broken_off


class UpstreamAnswer:
    """A 2xx answer. `headers` are those a client may see, by lower-case name. It must be closed.

    `held` is what the answer keeps in use: the connection and the lease.
    """

    def __init__(
        self,
        account: Account,
        status: int,
        headers: Mapping[str, str],
        *,
        first: bytes,
        rest: AsyncIterator[bytes],
        idle_timeout_seconds: float,
        held: AsyncExitStack,
    ) -> None:
        self.account = account
        self.status = status
        self.headers = headers
        self._idle_timeout_seconds = idle_timeout_seconds
        self._held = held
        self._chunks = self._read(first, rest)

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; empty when upstream names none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, once, in pieces of any size, read by one task. Raises UpstreamBrokenError when it breaks off."""
        return self._chunks

    async def aclose(self) -> None:
        """Close the connection and return the lease. Never raises; may be called again."""
        # RuntimeError: the body is being read by another task, which the closed connection ends.
        with suppress(*TRANSPORT_ERRORS, RuntimeError):
            await self._chunks.aclose()
        with suppress(*TRANSPORT_ERRORS, RuntimeError):
            await self._held.aclose()

    async def _read(self, first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        yield first
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._idle_timeout_seconds) as silence:
                async for chunk in rest:
                    # The time that the reader takes is not upstream's silence.
                    silence.reschedule(None)
                    yield chunk
                    silence.reschedule(now() + self._idle_timeout_seconds)
        except TRANSPORT_ERRORS as exception:
            raise broken_off(exception) from exception
