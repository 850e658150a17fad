"""A conversation that a call holds: kept while the call lasts, and let go in every way out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from app.errors import InvalidRequestError, StorageError
from app.relay.history.conversation import Conversations
from app.runtime.byte_budget import Reserve, reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.state.items.item_pages import PageQuery
from app.state.records import Chain, Conversation, Item, Project, StoredResponse
from app.storage.conversations.locks import ConversationLock, ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.projects.store import CreateProject
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from tests.builders import NOW, make_account, make_item, make_prepared, make_request, says, user
from tests.fakes.duty import on_duty

_SEALER = Sealer(KeyRing(b"secret of sixteen"))


@pytest.fixture
async def writing(sqlite_url: str) -> AsyncIterator[tuple[Database, Writer]]:
    database = Database(sqlite_url, pool_size=2, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "alpha", None, NOW)))
    yield database, writer
    await writer.aclose()
    await database.aclose()


@pytest.fixture
def responses(writing: tuple[Database, Writer]) -> ResponseStore:
    return ResponseStore(*writing, ComputeThread())


@pytest.fixture
def holds(writing: tuple[Database, Writer]) -> ConversationLockStore:
    return ConversationLockStore(*writing)


@pytest.fixture
async def store(writing: tuple[Database, Writer]) -> ConversationStore:
    store = ConversationStore(*writing)
    await store.create("proj_a", Conversation("conv_1", NOW, b"{}"), [make_item(user("One.", "msg_1"))])
    return store


@pytest.fixture
async def conversations(holds: ConversationLockStore, store: ConversationStore) -> Conversations:
    return Conversations(holds, ComputeThread())


def answered(*items: Item, status: str = "completed") -> StoredResponse:
    return StoredResponse(
        id="resp_1",
        project_id="proj_a",
        api_key_id="key_1",
        parent_key=None,
        status=status,
        model="demo",
        account="main/one",
        created_at=NOW,
        expires_at=NOW + 100,
        body=b"{}",
        usage=None,
        items=items,
    )


async def standing(store: ConversationStore) -> list[str]:
    items, _ = await store.read_page("proj_a", "conv_1", PageQuery(ascending=True))
    return [item.id for item in items]


async def test_a_held_conversation_is_the_history_and_takes_the_turn(
    conversations: Conversations, responses: ResponseStore, store: ConversationStore
) -> None:
    held = await conversations.lock("proj_a", "conv_1", responses, "call_1")
    request = make_request(conversation="conv_1", input="Two.")
    exchange = await make_prepared(request, held)
    sent = orjson.loads(exchange.render(make_account(state="upstream")))
    assert [item["content"] for item in sent["input"]] == ["One.", "Two."]
    assert "conversation" not in sent
    assert (request.conversation_id, exchange.parent_key, exchange.history) == ("conv_1", None, held)

    await held.save(answered(*exchange.items, make_item(says("Three.", "msg_3"), is_output=True)))
    assert await standing(store) == ["msg_1", exchange.items[0].id, "msg_3"]
    await held.release()
    again = await conversations.lock("proj_a", "conv_1", responses, "call_2")
    await again.release()


async def test_an_upstream_that_numbers_its_items_anew_hides_none(
    conversations: Conversations, responses: ResponseStore, store: ConversationStore
) -> None:
    held = await conversations.lock("proj_a", "conv_1", responses, "call_1")
    await held.read_history(reserve_nothing)
    await held.save(answered(make_item(user("One.", "msg_1")), make_item(says("One.", "msg_1"), is_output=True)))
    first, second = await standing(store)
    assert first == "msg_1"
    assert second.startswith("msg_")
    assert second != first


async def test_one_that_is_only_read_locks_nobody_out(
    conversations: Conversations, responses: ResponseStore, store: ConversationStore
) -> None:
    held = await conversations.lock("proj_a", "conv_1", responses, "call_1")
    opened = await conversations.open("proj_a", "conv_1", responses)
    chain = await opened.read_history(reserve_nothing)
    assert chain is not None
    assert (chain.key, [item.id for turn in chain.turns for item in turn.items]) == (None, ["msg_1"])
    await opened.release()
    with pytest.raises(InvalidRequestError):
        await conversations.lock("proj_a", "conv_1", responses, "call_2")
    await held.release()


class _Elsewhere:
    """Another memory, that has one item more."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        return None

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> Mapping[str, Item]:
        self.asked.append(set(item_ids))
        return {"msg_2": make_item(user("Two.", "msg_2"))}

    async def save(self, response: StoredResponse) -> None:
        raise AssertionError


async def test_items_are_looked_for_in_the_conversation_first(conversations: Conversations) -> None:
    elsewhere = _Elsewhere()
    opened = await conversations.open("proj_a", "conv_1", elsewhere)
    assert (await opened.read_items("proj_a", ["msg_1"], NOW, reserve_nothing)).keys() == {"msg_1"}
    assert (await opened.read_items("proj_a", ["msg_1", "msg_2"], NOW, reserve_nothing)).keys() == {"msg_1", "msg_2"}
    assert elsewhere.asked == [{"msg_2"}]


class _Watched(ConversationLockStore):
    """A store whose extensions are counted, and whose writes can be made to fail."""

    def __init__(self, *writing: Any) -> None:
        super().__init__(*writing)
        self.extended = asyncio.Event()
        self.asked: list[set[ConversationLock]] = []
        self.fails = False

    async def extend(self, holds: Any, lease_seconds: int) -> None:
        self.asked.append(set(holds))
        self.extended.set()
        if self.fails:
            raise StorageError("Down.")
        await super().extend(holds, lease_seconds)

    async def release(self, hold: ConversationLock) -> None:
        if self.fails:
            raise StorageError("Down.")
        await super().release(hold)


@pytest.fixture
async def extending(
    writing: tuple[Database, Writer], store: ConversationStore
) -> AsyncIterator[tuple[Conversations, _Watched]]:
    """Conversations whose lease of 0 seconds is extended without a pause."""
    watched = _Watched(*writing)
    conversations = Conversations(watched, ComputeThread(), lease_seconds=0)
    async with on_duty(conversations.extend, conversations.extend_seconds):
        yield conversations, watched


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_what_is_held_is_extended_until_it_is_let_go(
    extending: tuple[Conversations, _Watched], responses: ResponseStore
) -> None:
    conversations, watched = extending
    held = await conversations.lock("proj_a", "conv_1", responses, "call_1")
    await until(lambda: len(watched.asked) >= 3)
    watched.fails = True
    so_far = len(watched.asked)
    with capture_logs() as logs:
        await until(lambda: len(watched.asked) >= so_far + 2)
        # What cannot be ended now ends with its lease, and the call is not told.
        await held.release()
    assert {line["event"] for line in logs} >= {"a background duty fails, and is tried again", "a hold was not ended"}
    asked = len(watched.asked)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(watched.asked) <= asked + 1
    assert {hold.holder for holds in watched.asked for hold in holds} == {"call_1"}
