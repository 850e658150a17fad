"""Pause writers while a client reads slowly, and end the connection of a client that reads nothing."""

import asyncio
from typing import cast

from app.server.disconnect_watch import WriteTimeout

# Writers wait for a client that has so much unsent, beside the kernel's buffer.
_MOST_UNSENT_BYTES = 16 * 1024


class FlowControl(asyncio.Protocol):
    """Implement the writing half of a connection's protocol."""

    transport: asyncio.Transport

    def __init__(self, write_timeout_seconds: float) -> None:
        self._write_timeout_seconds = write_timeout_seconds
        self._drained: asyncio.Future[None] | None = None
        self.can_write = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_MOST_UNSENT_BYTES)
        self._writing = WriteTimeout(self.transport, self._write_timeout_seconds)

    def pause_writing(self) -> None:
        self.can_write = False
        self._writing.start()

    def resume_writing(self) -> None:
        self.can_write = True
        self._writing.stop()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        # The event loop does not call resume_writing here.
        self.resume_writing()
        if exc is None:
            self.transport.close()

    async def drain(self) -> None:
        """Wait until the client has taken what was written, or is gone."""
        while not self.can_write:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            # Several writers may wait for the same future.
            await asyncio.shield(self._drained)
