"""Name the reasons to refuse a write to a conversation, each with its client error."""

import enum

from app.errors import ApiError
from app.wire import error_messages

MOST_ITEMS = 100_000
"""The most items of a conversation: more than any model takes; it bounds what a page and a turn have to read."""


class ConversationRefusal(enum.Enum):
    """Name why nothing was written to a conversation; false as a write's result."""

    MISSING = enum.auto()
    LOCKED = enum.auto()
    FULL = enum.auto()
    NO_ITEM = enum.auto()

    def __bool__(self) -> bool:
        return False

    def error(self, conversation_id: str, item_id: str = "") -> ApiError:
        """Make the error for the client."""
        match self:
            case ConversationRefusal.MISSING:
                return error_messages.conversation_not_found(conversation_id)
            case ConversationRefusal.LOCKED:
                return error_messages.conversation_locked()
            case ConversationRefusal.FULL:
                return error_messages.conversation_full(MOST_ITEMS)
            case ConversationRefusal.NO_ITEM:
                return error_messages.item_not_found(item_id)
