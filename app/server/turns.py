"""Serve connections that have sent more than one request at once in turn, a few in each turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable

# Of those that wait, served before the loop looks after everybody else.
_EACH_TURN = 4


class Turns:
    """Those whose next request is here already, in the order in which they came: one queue for all connections.

    However many clients pipeline, a request on another connection meets a loop that turns quickly.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def join(self, serve: Callable[[], None]) -> None:
        """Have this called when its turn comes, in a later turn of the loop."""
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
