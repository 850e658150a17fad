"""Create, describe, read and delete conversations and their items, for the conversation endpoints."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.state.items.item_pages import PageQuery
from app.state.items.stored_form import distinct
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT, Conversation, Item, Turn
from app.storage.conversations import pages as conversation_pages
from app.storage.conversations.errors import ConversationRefusal
from app.storage.conversations.item_removal import RemoveItems
from app.storage.conversations.locks import lock_for_change
from app.storage.engine.database import Database
from app.storage.tables import conversations
from app.storage.turns import conversation_item_index, conversation_turns
from app.storage.writer.row_locks import Row, named
from app.storage.writer.writer import Rank, Write, Writer

_COLUMNS = (conversations.c.id, conversations.c.created_at, conversations.c.metadata)
_OWN = (conversations.c.project_id == bindparam("of_project"), conversations.c.id == bindparam("conversation_id"))
_READ = select(*_COLUMNS).where(*_OWN)
_FIND = select(conversations.c.key).where(*_OWN)
_DESCRIBE = update(conversations).where(*_OWN).returning(*_COLUMNS)
_DELETE = delete(conversations).where(*_OWN)


class ConversationStore:
    """Store the conversations of all projects. Methods raise NotFoundError for one that the project does not have."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(self, project_id: str, conversation: Conversation, items: Sequence[Item]) -> None:
        """Commit a new conversation with these items; its id is new."""
        await self._writer.submit(Create(project_id, conversation, _turn_of(distinct(items, {}))))

    async def read(self, project_id: str, conversation_id: str) -> Conversation:
        """Return the conversation without its items."""
        own = _own(project_id, conversation_id)
        row = await self._database.read(lambda connection: connection.execute(_READ, own).one_or_none())
        if row is None:
            raise ConversationRefusal.MISSING.error(conversation_id)
        return Conversation(*row)

    async def describe(self, project_id: str, conversation_id: str, metadata: bytes) -> Conversation:
        """Replace the conversation's metadata."""
        described = await self._writer.submit(Describe(project_id, conversation_id, metadata))
        if isinstance(described, ConversationRefusal):
            raise described.error(conversation_id)
        return described

    async def delete(self, project_id: str, conversation_id: str) -> None:
        """Delete the conversation and its items; the responses made in it stay."""
        if not await self._writer.submit(Delete(project_id, conversation_id)):
            raise ConversationRefusal.MISSING.error(conversation_id)

    async def add_items(self, project_id: str, conversation_id: str, items: Sequence[Item]) -> Sequence[Item]:
        """Append items and return the new ones with their ids in the conversation.

        Raises InvalidRequestError while a call has the lock.
        """
        standing = await self.read_items(project_id, conversation_id, [item.id for item in items])
        new = distinct(items, standing)
        added = await self._writer.submit(AddItems(project_id, conversation_id, _turn_of(new)))
        if isinstance(added, ConversationRefusal):
            raise added.error(conversation_id)
        return [replace(item, id=item_id) for item, item_id in zip(new, added.ids, strict=True)]

    async def delete_item(self, project_id: str, conversation_id: str, item_id: str) -> Conversation:
        """Remove the item. Raises NotFoundError without one, and InvalidRequestError while a call has the lock."""
        left = await self._writer.submit(DeleteItem(project_id, conversation_id, item_id))
        if isinstance(left, ConversationRefusal):
            raise left.error(conversation_id, item_id)
        return left

    async def read_items(
        self,
        project_id: str,
        conversation_id: str,
        item_ids: Collection[str],
        reserve: Reserve = reserve_nothing,
    ) -> dict[str, Item]:
        """Return the items with these ids. `reserve` is called before much is read, here and below."""

        def read(connection: Connection, most: int) -> tuple[int, dict[str, Item]]:
            key = _key_of(connection, project_id, conversation_id)
            found = conversation_item_index.find(connection, key, item_ids)
            return conversation_turns.read_items(connection, found, item_ids, most)

        return await self._database.read_within(read, reserve)

    async def read_page(
        self, project_id: str, conversation_id: str, query: PageQuery, reserve: Reserve = reserve_nothing
    ) -> tuple[list[Item], bool]:
        """Return the items of this page, and whether more follow; only their content is read.

        A page of large items is shorter than its limit. Raises InvalidRequestError for an unknown cursor.
        """

        def read(connection: Connection, most: int) -> tuple[int, tuple[list[Item], bool]]:
            key = _key_of(connection, project_id, conversation_id)
            return conversation_pages.read_page(connection, key, query, most)

        return await self._database.read_within(read, reserve)


@dataclass(frozen=True, slots=True)
class Create(Write[None]):
    """Insert a conversation and a turn of its first items. The gateway made its id, so no other has it."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation: Conversation
    turn: Turn | None

    def undo(self, result: None) -> "Delete":  # noqa: ARG002 (its id is known)
        return Delete(self.project_id, self.conversation.id)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            made = write.conversation
            key = connection.scalar(
                insert(conversations)
                .values(
                    project_id=write.project_id,
                    id=made.id,
                    created_at=made.created_at,
                    item_count=0,
                    metadata=made.metadata,
                )
                .returning(conversations.c.key)
            )
            if write.turn is not None and key is not None:
                conversation_turns.append(connection, key, write.turn)
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class Describe(Write[Conversation | ConversationRefusal]):
    """Replace a conversation's metadata."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation_id: str
    metadata: bytes

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("conversations", self.project_id, self.conversation_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Conversation | ConversationRefusal]:
        rows = [
            connection.execute(
                _DESCRIBE.values(metadata=write.metadata, used_at=conversation_turns.USED),
                _own(write.project_id, write.conversation_id),
            ).one_or_none()
            for write in writes
        ]
        return [ConversationRefusal.MISSING if row is None else Conversation(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Delete(Write[bool]):
    """Delete a conversation with its turns; False when there was none."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    erases: ClassVar[bool] = True

    project_id: str
    conversation_id: str

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("conversations", self.project_id, self.conversation_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        return [
            connection.execute(_DELETE, _own(write.project_id, write.conversation_id)).rowcount > 0 for write in writes
        ]


class Added(NamedTuple):
    """Report a conversation's key, and the ids that the added items have there."""

    key: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class AddItems(Write[Added | ConversationRefusal]):
    """Append a client's items to a conversation as a turn."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation_id: str
    turn: Turn | None

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("conversations", self.project_id, self.conversation_id),)

    def undo(self, result: Added | ConversationRefusal) -> RemoveItems | None:
        return None if isinstance(result, ConversationRefusal) else RemoveItems(*result)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Added | ConversationRefusal]:
        return [_add(connection, write) for write in writes]


def _add(connection: Connection, write: AddItems) -> Added | ConversationRefusal:
    size = len(write.turn.outline.ids) if write.turn else 0
    key = lock_for_change(connection, write.project_id, write.conversation_id, adds=size)
    if isinstance(key, ConversationRefusal):
        return key
    return Added(key, () if write.turn is None else conversation_turns.append(connection, key, write.turn))


@dataclass(frozen=True, slots=True)
class DeleteItem(Write[Conversation | ConversationRefusal]):
    """Remove an item from a conversation, and the compactions that were made of it.

    The rows of responses with such compactions are known only then, so they are locked and waited for in `apply`.
    """

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True

    project_id: str
    conversation_id: str
    item_id: str

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("conversations", self.project_id, self.conversation_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Conversation | ConversationRefusal]:
        return [_delete_item(connection, write) for write in writes]


def _delete_item(connection: Connection, write: DeleteItem) -> Conversation | ConversationRefusal:
    key = lock_for_change(connection, write.project_id, write.conversation_id)
    if isinstance(key, ConversationRefusal):
        return key
    if not conversation_turns.remove_item(connection, key, write.item_id):
        return ConversationRefusal.NO_ITEM
    return Conversation(*connection.execute(_READ, _own(write.project_id, write.conversation_id)).one())


def _own(project_id: str, conversation_id: str) -> dict[str, str]:
    return {"of_project": project_id, "conversation_id": conversation_id}


def _key_of(connection: Connection, project_id: str, conversation_id: str) -> int:
    key: int | None = connection.scalar(_FIND, _own(project_id, conversation_id))
    if key is None:
        raise ConversationRefusal.MISSING.error(conversation_id)
    return key


def _turn_of(items: Sequence[Item]) -> Turn | None:
    """Pack items that no account served into a turn; None for no items."""
    return pack("completed", NO_ACCOUNT, items) if items else None
