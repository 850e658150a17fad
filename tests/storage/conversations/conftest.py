"""A conversation's lock, taken by this process or another."""

from collections.abc import AsyncIterator

import pytest

from app.state.records import StoredResponse
from app.storage.conversations.locks import ConversationLock, ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.database import Database
from app.storage.writer.writer import Writer

LEASE = 30


def turn_of(response: StoredResponse, hold: ConversationLock, last_turn_key: int = 0) -> SaveTurn:
    return SaveTurn.of(response, hold, last_turn_key, {})


@pytest.fixture
async def other_process(database_url: str, conversations: ConversationStore) -> AsyncIterator[ConversationLockStore]:
    """The store of another process on the same database."""
    database = Database(database_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    yield ConversationLockStore(database, writer)
    await writer.aclose()
    await database.aclose()


async def hold(holds: ConversationLockStore, holder: str = "call_1", lease: int = LEASE) -> ConversationLock:
    return await holds.acquire("proj_a", "conv_1", holder, lease)
