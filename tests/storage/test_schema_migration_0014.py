"""Migration 0014 on databases that hold something: what stood there is found as before, and the days have sums."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from alembic import command
from sqlalchemy import LargeBinary, column, insert, table, text

from app.runtime.compute_thread import ComputeThread
from app.state.items.item_pages import PageQuery
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT, Item
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.engine.storable_text import storable_id
from app.storage.responses.store import ResponseStore
from app.storage.schema_migration import open_for_migration
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW, message
from tests.storage.test_schema_migration_0002 import alembic
from tests.storage.usage.test_daily_sums import of_hours
from tests.storage.usage.test_store import DAY, HOUR, MIDNIGHT, whole

LONG_ID = "resp_" + secrets.token_hex(400)
ITEM_ID = "msg_" + secrets.token_hex(400)
_turns = table(
    "conversation_turns", column("conversation_key"), column("outline", LargeBinary()), column("content", LargeBinary())
)
_responses = table(
    "responses",
    *map(column, ("project_id", "id", "api_key_id", "status", "model", "account", "created_at", "expires_at")),
    *[column(name, LargeBinary()) for name in ("outline", "content", "body")],
)


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of schema 0010: a conversation, a response and an item with long ids, and hours of three days."""
    url = f"sqlite:///{tmp_path}/antiphon.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("empty_postgresql_url")
    command.upgrade(alembic(url), "0010")
    with open_for_migration(url) as connection:
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('proj_a', 'alpha', 0)"))
        turn = pack("completed", NO_ACCOUNT, [Item(ITEM_ID, "message", is_output=False, content=b'"said"')])
        outline = msgspec.msgpack.encode(turn.outline)
        told = ("proj_a", LONG_ID, "key_1", "completed", "m", "a", NOW, NOW + 100, outline, turn.content, b"{}")
        connection.execute(insert(_responses).values(dict(zip(_responses.columns.keys(), told, strict=True))))
        connection.execute(text("INSERT INTO items SELECT key, 0, 'proj_a', :id FROM responses").bindparams(id=ITEM_ID))
        connection.execute(
            text(
                "INSERT INTO conversations (project_id, id, created_at, item_count, metadata)"
                " VALUES ('proj_a', 'conv_1', 0, 4, :metadata)"
            ).bindparams(metadata=b"{}")
        )
        for names in "ab", "cd":
            turn = pack("completed", NO_ACCOUNT, [message(name) for name in names])
            outline = msgspec.msgpack.encode(turn.outline)
            connection.execute(insert(_turns).values(conversation_key=1, outline=outline, content=turn.content))
        for at in (MIDNIGHT, MIDNIGHT + HOUR, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY + HOUR):
            connection.execute(
                text(
                    "INSERT INTO usage_hours"
                    " VALUES (:at, 'proj_a', 'key_1', 'm', '', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)"
                ).bindparams(at=at)
            )
    return url


@pytest.fixture
async def migrated(old_url: str) -> AsyncIterator[tuple[Database, Writer]]:
    command.upgrade(alembic(old_url), "head")
    database = Database(old_url, pool_size=1, commit_timeout=20.0)
    writer = Writer(database, 20.0)
    yield database, writer
    await writer.aclose()
    await database.aclose()


async def test_what_was_kept_is_found_after_it(migrated: tuple[Database, Writer]) -> None:
    responses = ResponseStore(*migrated, ComputeThread())
    assert await responses.read_body("proj_a", LONG_ID, NOW) == b"{}"
    assert set(await responses.read_items("proj_a", [ITEM_ID], NOW)) == {ITEM_ID}
    conversations = ConversationStore(*migrated)
    page, has_more = await conversations.read_page("proj_a", "conv_1", PageQuery(after="msg_c"))
    assert ([item.id for item in page], has_more) == (["msg_b", "msg_a"], False)
    await conversations.delete_item("proj_a", "conv_1", "msg_a")
    await conversations.add_items("proj_a", "conv_1", [message("e")])
    assert set(await conversations.read_items("proj_a", "conv_1", ["msg_a", "msg_b", "msg_e"])) == {"msg_b", "msg_e"}


async def test_the_days_before_it_have_sums(migrated: tuple[Database, Writer]) -> None:
    usage = UsageStore(*migrated)
    time = {"since": MIDNIGHT, "until": MIDNIGHT + 3 * DAY}
    rows = await whole(usage, **time, group_by=("day",))
    assert [(row.begins, row.requests) for row in rows] == [(MIDNIGHT, 2), (MIDNIGHT + DAY, 1), (MIDNIGHT + 2 * DAY, 1)]
    (total,) = await whole(usage, **time)
    assert total.requests == sum(row.requests for row in await of_hours(usage, **time)) == 4


def test_it_goes_down_and_up_again(old_url: str) -> None:
    for revision in ("head", "0010"):
        (command.upgrade if revision == "head" else command.downgrade)(alembic(old_url), revision)
    command.upgrade(alembic(old_url), "head")
    with open_for_migration(old_url) as connection:
        assert connection.execute(text("SELECT id FROM responses")).scalars().all() == [storable_id(LONG_ID)]
        assert connection.execute(text("SELECT count(*) FROM usage_days")).scalar_one() == 3
