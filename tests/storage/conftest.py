"""The stores on a fresh database, and turns to put into them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import pytest
from sqlalchemy import Connection, func, select, text

from app.runtime.compute_thread import ComputeThread
from app.state.items.item_pages import PageQuery
from app.state.records import Chain, Conversation, Item, Project, StoredResponse, TokenUsage
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.projects.store import CreateProject
from app.storage.responses.store import ResponseStore
from app.storage.runs.store import RunStore
from app.storage.tables import conversation_turns
from app.storage.tables import conversations as conversations_table
from app.storage.tables import items as items_table
from app.storage.tables import responses as responses_table
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Rank, Write, Writer
from tests.conftest import COMMIT_TIMEOUT

MakeResponse = Callable[..., StoredResponse]

NOW = 1_800_000_000


@dataclass(frozen=True, slots=True)
class Count(Write[int]):
    """Fails with what it is given; else says how many were applied together."""

    rank: ClassVar[Rank] = Rank.META

    error: Exception | None = None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> Sequence[int]:
        connection.execute(text("SELECT 1"))
        for write in writes:
            if write.error is not None:
                raise write.error
        return [len(writes)] * len(writes)


class Replica:
    """A process on this database."""

    def __init__(self, url: str, commit_timeout: float = COMMIT_TIMEOUT) -> None:
        self.database = Database(url, pool_size=2, commit_timeout=commit_timeout)
        self.writer = Writer(self.database, commit_timeout)

    async def aclose(self) -> None:
        await self.writer.aclose()
        await self.database.aclose()


@pytest.fixture
async def project(writer: Writer) -> Project:
    project = Project("proj_a", "alpha", None, NOW)
    await writer.submit(CreateProject(project))
    await writer.submit(CreateProject(Project("proj_b", "beta", 7, NOW)))
    return project


@pytest.fixture
async def responses(database: Database, writer: Writer, project: Project) -> ResponseStore:
    return ResponseStore(database, writer, ComputeThread())


@pytest.fixture
async def runs(database: Database, writer: Writer, project: Project) -> RunStore:
    return RunStore(database, writer)


@pytest.fixture
async def usage(database: Database, writer: Writer, project: Project) -> UsageStore:
    return UsageStore(database, writer)


@pytest.fixture
def limits(database: Database, writer: Writer) -> DatabaseCounts:
    return DatabaseCounts(database, writer)


@pytest.fixture
async def other_limits(database_url: str) -> AsyncIterator[DatabaseCounts]:
    """The store of another process: on PostgreSQL a replica, on SQLite the one after a restart."""
    database = Database(database_url, pool_size=2, commit_timeout=COMMIT_TIMEOUT)
    writer = Writer(database, COMMIT_TIMEOUT)
    yield DatabaseCounts(database, writer)
    await writer.aclose()
    await database.aclose()


@pytest.fixture
def make_response() -> MakeResponse:
    def make(
        name: str,
        parent_key: int | None = None,
        *,
        project_id: str = "proj_a",
        expires_at: int = NOW + 100,
        body: bytes = b"{}",
        items: tuple[Item, ...] | None = None,
        usage: TokenUsage | None = None,
    ) -> StoredResponse:
        if items is None:
            items = (
                Item(f"msg_{name}_in", "message", is_output=False, content=b'{"in":"%b"}' % name.encode()),
                Item(f"msg_{name}_out", "message", is_output=True, content=b'{"out":"%b"}' % name.encode()),
            )
        return StoredResponse(
            id=f"resp_{name}",
            project_id=project_id,
            api_key_id="key_1",
            parent_key=parent_key,
            status="completed",
            model="gpt-5",
            account="account-1",
            created_at=NOW,
            expires_at=expires_at,
            body=body,
            usage=usage,
            items=items,
        )

    return make


@pytest.fixture
async def conversations(database: Database, writer: Writer, responses: ResponseStore) -> ConversationStore:
    """With the conversation conv_1 of the first project, and conv_other of the second."""
    store = ConversationStore(database, writer)
    await store.create("proj_a", Conversation("conv_1", NOW, b'{"a":"b"}'), ())
    await store.create("proj_b", Conversation("conv_other", NOW, b"{}"), ())
    return store


@pytest.fixture
async def holds(database: Database, writer: Writer, conversations: ConversationStore) -> ConversationLockStore:
    return ConversationLockStore(database, writer)


def message(name: str) -> Item:
    return Item(f"msg_{name}", "message", is_output=False, content=b'{"in":"%b"}' % name.encode())


async def standing(conversations: ConversationStore, conversation_id: str = "conv_1") -> list[str]:
    """The ids of what stands in it, oldest first."""
    items, _ = await conversations.read_page("proj_a", conversation_id, PageQuery(limit=100, ascending=True))
    return [item.id for item in items]


async def chain_of(store: ResponseStore, name: str, now: int = NOW) -> Chain:
    chain = await store.read_chain("proj_a", f"resp_{name}", now)
    assert chain is not None
    return chain


async def grow(store: ResponseStore, make: MakeResponse, *names: str, expires_at: int = NOW + 100) -> Chain:
    """Save a chain, each turn the child of the one before."""
    parent: int | None = None
    for name in names:
        await store.save(make(name, parent, expires_at=expires_at))
        parent = (await chain_of(store, name, expires_at - 1)).key
    return await chain_of(store, names[-1], expires_at - 1)


async def count_responses(database: Database) -> tuple[int, int]:
    """The responses that are kept, and their items."""
    kept = select(func.count()).select_from(responses_table).scalar_subquery()
    kept_items = select(func.count()).select_from(items_table).scalar_subquery()
    row = await database.read(lambda connection: connection.execute(select(kept, kept_items)).one())
    return row[0], row[1]


async def count_turns(database: Database) -> tuple[int, int]:
    """The turns that conversations keep, and the items that they count."""
    turns = select(func.count()).select_from(conversation_turns).scalar_subquery()
    items = select(func.sum(conversations_table.c.item_count)).scalar_subquery()
    row = await database.read(lambda connection: connection.execute(select(turns, items)).one())
    return row[0], int(row[1] or 0)
