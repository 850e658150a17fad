"""What is written in one turn of the event loop, sent at its end. Must not know what it is, nor who reads it."""

import asyncio


class Outbox:
    """Sends what several tasks write in one turn together.

    Each write is a system call that wakes whoever reads on the other side, which costs more than all else of it. Made
    one after the other they find the reader awake.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Transport, bytes] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send this before the loop waits again, after what was written to the same transport."""
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self.send)
        before = waiting.get(transport)
        waiting[transport] = data if before is None else before + data

    def send(self) -> None:
        """Send what waits now: nothing may overtake it."""
        waiting, self._waiting = self._waiting, {}
        for transport, data in waiting.items():
            if not transport.is_closing():
                transport.write(data)
