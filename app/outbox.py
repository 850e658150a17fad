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
        self._waiting: dict[asyncio.Transport, bytes] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send this before the loop waits again, after what was written to the same transport."""
        if not self._is_gathering:
            self._is_gathering = True
            asyncio.get_running_loop().call_soon(self._end_turn)
            if not self._is_busy:
                transport.write(data)
                return
        before = self._waiting.get(transport)
        self._waiting[transport] = data if before is None else before + data

    def send(self) -> None:
        """Send what waits now: nothing may overtake it."""
        waiting, self._waiting = self._waiting, {}
        for transport, data in waiting.items():
            if not transport.is_closing():
                transport.write(data)

    def _end_turn(self) -> None:
        self._is_gathering = False
        self._is_busy = len(self._waiting) + (not self._is_busy) > 1
        self.send()
