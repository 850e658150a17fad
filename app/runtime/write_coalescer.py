"""Coalesce the writes of one turn of the event loop into one system call per connection."""

import asyncio


class WriteCoalescer:
    """Send what a loop turn writes at its end; the first write at once, unless the turn before wrote more than that.

    Each write is a system call that wakes the reader on the other side, which costs more than all else. Made one after
    the other they find the reader awake; and a lone write waits for nothing.
    """

    def __init__(self) -> None:
        self._is_gathering = False
        self._is_busy = False
        # The first write of each connection, and those that follow it.
        self._waiting: dict[asyncio.Transport, bytes] = {}
        self._following: dict[asyncio.Transport, list[bytes]] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send this before the loop waits again, after what was written to the same transport."""
        if not self._is_gathering:
            self._is_gathering = True
            asyncio.get_running_loop().call_soon(self._end_turn)
            if not self._is_busy:
                transport.write(data)
                return
        if transport in self._waiting:
            self._following.setdefault(transport, []).append(data)
        else:
            self._waiting[transport] = data

    def send(self) -> None:
        """Send what waits now: nothing may overtake it. A transport that fails is aborted, others get their bytes."""
        waiting, self._waiting = self._waiting, {}
        following, self._following = self._following, {}
        failed: list[tuple[asyncio.Transport, Exception]] = []
        for transport, data in waiting.items():
            if transport.is_closing():
                continue
            try:
                rest = following.get(transport) if following else None
                transport.write(b"".join((data, *rest)) if rest else data)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others' bytes leave
                failed.append((transport, error))
        for transport, reason in failed:
            _end_failed(transport, reason)

    def _end_turn(self) -> None:
        self._is_gathering = False
        self._is_busy = len(self._waiting) + (not self._is_busy) > 1
        self.send()


def _end_failed(transport: asyncio.Transport, error: Exception) -> None:
    """Abort a connection that lost bytes: the rest of the stream would be misread."""
    context = {"message": "bytes could not be sent to a connection, which ends", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
    transport.abort()
