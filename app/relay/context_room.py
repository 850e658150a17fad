"""Bound the history of one call: refuse one over the limit, and reserve its bytes before it is read."""

from app.byte_budget import Reservation
from app.wire import wording

# A history is held as it was stored and as it is sent.
_COPIES = 2


class ContextRoom:
    """The room of one call, whose context may have `max_bytes` in all. The bytes are held by the call's reservation."""

    __slots__ = ("_held", "_left", "_max_bytes")

    def __init__(self, max_bytes: int, held: Reservation) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._held = held

    @property
    def used(self) -> int:
        """How many bytes the context has."""
        return self._max_bytes - self._left

    def add(self, size: int) -> None:
        """Count what is held already, the call's own input. Raises InvalidRequestError when the context is too long."""
        self._left -= size
        if self._left < 0:
            raise wording.context_too_long(self._max_bytes)

    async def reserve(self, size: int) -> None:
        """Make room for so much history before it is read. Raises as `add` does, and OverloadedError."""
        self.add(size)
        await self._held.add(size * _COPIES)
