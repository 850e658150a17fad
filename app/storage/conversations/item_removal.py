"""Undo the adding of items to a conversation, after its client was told that they were not added."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import Connection

from app.storage.turns import conversation_turns
from app.storage.writer.row_locks import Row, keyed
from app.storage.writer.writer import Rank, Write


@dataclass(frozen=True, slots=True)
class RemoveItems(Write[None]):
    """Remove these items, whoever has the lock by now: no client was told that they are there."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    key: int
    item_ids: Sequence[str]

    @property
    def rows(self) -> tuple[Row, ...]:
        return (keyed("conversations", self.key),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            for item_id in write.item_ids:
                conversation_turns.remove_item(connection, write.key, item_id)
        return [None] * len(writes)
