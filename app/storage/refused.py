"""Say why nothing was written to a conversation, and what its client is told of that."""

import enum

from app.errors import ApiError
from app.wire import wording

MOST_ITEMS = 100_000
"""A history that no model takes; a bound on what a page of it, and each of its turns, has to read."""


class Refused(enum.Enum):
    """Why nothing was written to a conversation; false, as a result."""

    MISSING = enum.auto()
    LOCKED = enum.auto()
    FULL = enum.auto()
    NO_ITEM = enum.auto()

    def __bool__(self) -> bool:
        return False

    def error(self, conversation_id: str, item_id: str = "") -> ApiError:
        """What the client is told."""
        match self:
            case Refused.MISSING:
                return wording.conversation_not_found(conversation_id)
            case Refused.LOCKED:
                return wording.conversation_locked()
            case Refused.FULL:
                return wording.conversation_full(MOST_ITEMS)
            case Refused.NO_ITEM:
                return wording.item_not_found(item_id)
