"""Queue connections whose next request is here already, and serve a few in each turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable

# Connections served in each turn of the loop.
_EACH_TURN = 4


class PipelineTurns:
    """Serve pipelined requests first come, first served, from one queue of all connections.

    However many clients pipeline, a turn of the loop stays short for the other connections.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def join(self, serve: Callable[[], None]) -> None:
        """Call `serve` when its turn comes, in a later turn of the loop."""
        self._waiting.append(serve)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        try:
            for _ in range(min(_EACH_TURN, len(self._waiting))):
                self._waiting.popleft()()
        finally:
            self._is_scheduled = bool(self._waiting)
            if self._is_scheduled:
                asyncio.get_running_loop().call_soon(self._serve)
