"""Bound the history of one call: refuse a history over the limit, and reserve its bytes before it is read."""

from app.runtime.byte_budget import Reservation
from app.wire import error_messages

# A history is held as it was stored and as it is sent.
_COPIES = 2


class ContextLimit:
    """Count the context of one call up to `max_bytes`, and hold its bytes in the call's reservation."""

    __slots__ = ("_held", "_left", "_max_bytes")

    def __init__(self, max_bytes: int, held: Reservation) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._held = held

    @property
    def used(self) -> int:
        """Return how many bytes the context has."""
        return self._max_bytes - self._left

    def add(self, size: int) -> None:
        """Count the call's own input, which is held already. Raises InvalidRequestError over the limit."""
        self._left -= size
        if self._left < 0:
            raise error_messages.context_too_long(self._max_bytes)

    async def reserve(self, size: int) -> None:
        """Reserve so many bytes of history before they are read. Raises as `add` does, and OverloadedError."""
        self.add(size)
        await self._held.add(size * _COPIES)
