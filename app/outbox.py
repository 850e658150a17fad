"""What is written in one turn of the event loop, sent together. Must not know what it is, nor who reads it."""

import asyncio


class Outbox:
    """Sends what a turn writes at its end; the first of it at once, unless the turn before wrote more than that.

    Each write is a system call that wakes whoever reads on the other side, which costs more than all else of it. Made
    one after the other they find the reader awake; and where only one thing goes on, it waits for nothing.
    """

    def __init__(self) -> None:
        self._is_gathering = False
        self._is_busy = False
        self._waiting: dict[asyncio.Transport, list[bytes]] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send this before the loop waits again, after what was written to the same transport."""
        if not self._is_gathering:
            self._is_gathering = True
            asyncio.get_running_loop().call_soon(self._end_turn)
            if not self._is_busy:
                transport.write(data)
                return
        pieces = self._waiting.get(transport)
        if pieces is None:
            self._waiting[transport] = [data]
        else:
            pieces.append(data)

    def send(self) -> None:
        """Send what waits now: nothing may overtake it. A transport that fails ends, and costs no other its bytes."""
        waiting, self._waiting = self._waiting, {}
        failed: list[tuple[asyncio.Transport, Exception]] = []
        for transport, pieces in waiting.items():
            if transport.is_closing():
                continue
            try:
                transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            except Exception as error:  # noqa: BLE001 - whatever it is, the others' bytes leave
                failed.append((transport, error))
        for transport, reason in failed:
            _end_failed(transport, reason)

    def _end_turn(self) -> None:
        self._is_gathering = False
        self._is_busy = len(self._waiting) + (not self._is_busy) > 1
        self.send()


def _end_failed(transport: asyncio.Transport, error: Exception) -> None:
    """End a connection that lost bytes: what follows would be read as what it is not."""
    context = {"message": "bytes could not be sent to a connection, which ends", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
    transport.abort()
