"""Conversations as their own endpoints show them: made, described, filled, read, deleted. Must not know HTTP."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from app.byte_budget import Reserve, reserve_nothing
from app.state.items import distinct
from app.state.listing import PageQuery
from app.state.packing import pack
from app.state.records import NO_ACCOUNT, Conversation, Item, Turn
from app.storage import conversation_items, conversation_pages, conversation_turns
from app.storage.database import Database
from app.storage.hold_store import seize
from app.storage.refused import Refused
from app.storage.remove_items import RemoveItems
from app.storage.row_locks import Row, named
from app.storage.tables import conversations
from app.storage.writer import Rank, Write, Writer

_COLUMNS = (conversations.c.id, conversations.c.created_at, conversations.c.metadata)
_OWN = (conversations.c.project_id == bindparam("of_project"), conversations.c.id == bindparam("conversation_id"))
_READ = select(*_COLUMNS).where(*_OWN)
_FIND = select(conversations.c.key).where(*_OWN)
_DESCRIBE = update(conversations).where(*_OWN).returning(*_COLUMNS)
_DELETE = delete(conversations).where(*_OWN)


class ConversationStore:
    """The conversations of all projects. Each method raises NotFoundError for one that the project does not have."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(self, project_id: str, conversation: Conversation, items: Sequence[Item]) -> None:
        """Commit a new conversation with these items; its id is new."""
        await self._writer.submit(Create(project_id, conversation, _turn_of(distinct(items, {}))))

    async def read(self, project_id: str, conversation_id: str) -> Conversation:
        """The conversation, without what stands in it."""
        own = _own(project_id, conversation_id)
        row = await self._database.read(lambda connection: connection.execute(_READ, own).one_or_none())
        if row is None:
            raise Refused.MISSING.error(conversation_id)
        return Conversation(*row)

    async def describe(self, project_id: str, conversation_id: str, metadata: bytes) -> Conversation:
        """Replace its metadata."""
        described = await self._writer.submit(Describe(project_id, conversation_id, metadata))
        if isinstance(described, Refused):
            raise described.error(conversation_id)
        return described

    async def delete(self, project_id: str, conversation_id: str) -> None:
        """Remove it and what stands in it; the responses made in it stay."""
        if not await self._writer.submit(Delete(project_id, conversation_id)):
            raise Refused.MISSING.error(conversation_id)

    async def add_items(self, project_id: str, conversation_id: str, items: Sequence[Item]) -> Sequence[Item]:
        """Append these, and return those that did not stand there yet, as they stand there now.

        Raises InvalidRequestError while a call holds the conversation.
        """
        standing = await self.read_items(project_id, conversation_id, [item.id for item in items])
        new = distinct(items, standing)
        added = await self._writer.submit(AddItems(project_id, conversation_id, _turn_of(new)))
        if isinstance(added, Refused):
            raise added.error(conversation_id)
        return [replace(item, id=item_id) for item, item_id in zip(new, added.ids, strict=True)]

    async def delete_item(self, project_id: str, conversation_id: str, item_id: str) -> Conversation:
        """Remove the item; NotFoundError too where there is none. InvalidRequestError while a call holds the rest."""
        left = await self._writer.submit(DeleteItem(project_id, conversation_id, item_id))
        if isinstance(left, Refused):
            raise left.error(conversation_id, item_id)
        return left

    async def read_items(
        self,
        project_id: str,
        conversation_id: str,
        item_ids: Collection[str],
        reserve: Reserve = reserve_nothing,
    ) -> dict[str, Item]:
        """Those of these items that stand in it. `reserve` is called before much is read, here and below."""

        def read(connection: Connection, most: int) -> tuple[int, dict[str, Item]]:
            key = _key_of(connection, project_id, conversation_id)
            found = conversation_items.find(connection, key, item_ids)
            return conversation_turns.read_items(connection, found, item_ids, most)

        return await self._database.read_within(read, reserve)

    async def read_page(
        self, project_id: str, conversation_id: str, query: PageQuery, reserve: Reserve = reserve_nothing
    ) -> tuple[list[Item], bool]:
        """The items of this page, and whether there are more; content is read of these alone.

        A page of large items has fewer of them than it could have. Raises InvalidRequestError for an unknown cursor.
        """

        def read(connection: Connection, most: int) -> tuple[int, tuple[list[Item], bool]]:
            key = _key_of(connection, project_id, conversation_id)
            return conversation_pages.read_page(connection, key, query, most)

        return await self._database.read_within(read, reserve)


@dataclass(frozen=True, slots=True)
class Create(Write[None]):
    """A new conversation, with a turn of what it begins with. Its id is ours, and so nobody else's."""

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
class Describe(Write[Conversation | Refused]):
    """A conversation's new metadata."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation_id: str
    metadata: bytes

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (named("conversations", self.project_id, self.conversation_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Conversation | Refused]:
        rows = [
            connection.execute(
                _DESCRIBE.values(metadata=write.metadata, used_at=conversation_turns.USED),
                _own(write.project_id, write.conversation_id),
            ).one_or_none()
            for write in writes
        ]
        return [Refused.MISSING if row is None else Conversation(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Delete(Write[bool]):
    """A conversation's removal, with its turns. False when there was none."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    erases: ClassVar[bool] = True

    project_id: str
    conversation_id: str

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (named("conversations", self.project_id, self.conversation_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        return [
            connection.execute(_DELETE, _own(write.project_id, write.conversation_id)).rowcount > 0 for write in writes
        ]


class Added(NamedTuple):
    """The key of a conversation, and the ids that the items which were added have there."""

    key: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class AddItems(Write[Added | Refused]):
    """What a client adds to a conversation, as a turn."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS

    project_id: str
    conversation_id: str
    turn: Turn | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (named("conversations", self.project_id, self.conversation_id),)

    def undo(self, result: Added | Refused) -> RemoveItems | None:
        return None if isinstance(result, Refused) else RemoveItems(*result)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Added | Refused]:
        return [_add(connection, write) for write in writes]


def _add(connection: Connection, write: AddItems) -> Added | Refused:
    size = len(write.turn.outline.ids) if write.turn else 0
    key = seize(connection, write.project_id, write.conversation_id, adds=size)
    if isinstance(key, Refused):
        return key
    return Added(key, () if write.turn is None else conversation_turns.append(connection, key, write.turn))


@dataclass(frozen=True, slots=True)
class DeleteItem(Write[Conversation | Refused]):
    """An item's removal from a conversation, and of the compactions that were made of it.

    Those of responses are rows that are known only then, and are waited for.
    """

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True

    project_id: str
    conversation_id: str
    item_id: str

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversation."""
        return (named("conversations", self.project_id, self.conversation_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Conversation | Refused]:
        return [_delete_item(connection, write) for write in writes]


def _delete_item(connection: Connection, write: DeleteItem) -> Conversation | Refused:
    key = seize(connection, write.project_id, write.conversation_id)
    if isinstance(key, Refused):
        return key
    if not conversation_turns.remove_item(connection, key, write.item_id):
        return Refused.NO_ITEM
    return Conversation(*connection.execute(_READ, _own(write.project_id, write.conversation_id)).one())


def _own(project_id: str, conversation_id: str) -> dict[str, str]:
    return {"of_project": project_id, "conversation_id": conversation_id}


def _key_of(connection: Connection, project_id: str, conversation_id: str) -> int:
    key: int | None = connection.scalar(_FIND, _own(project_id, conversation_id))
    if key is None:
        raise Refused.MISSING.error(conversation_id)
    return key


def _turn_of(items: Sequence[Item]) -> Turn | None:
    """The turn of items that no account served; None for no items."""
    return pack("completed", NO_ACCOUNT, items) if items else None
