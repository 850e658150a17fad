"""Migration 0002 on databases that hold something: nothing is lost on the way up, nor on the way down."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Boolean, LargeBinary, column, insert, select, table, text

from app.runtime.compute_thread import ComputeThread
from app.state.records import NO_ACCOUNT, Item
from app.storage.engine.database import Database
from app.storage.responses.store import ResponseStore
from app.storage.schema_migration import open_for_migration
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW, MakeResponse

ROOT = Path(__file__).parents[2]

_RESPONSE = ("key", "project_id", "id", "parent_key", "api_key_id", "status", "model", "account", "created_at")
_ITEM = ("response_key", "project_id", "id", "position", "type", "call_id", "account")
_responses = table("responses", *map(column, (*_RESPONSE, "expires_at")), column("body", LargeBinary()))
_items = table("items", *map(column, _ITEM), column("is_output", Boolean()), column("content", LargeBinary()))

USER = Item("msg_1", "message", is_output=False, content=b'{"role":"user"}')
DEAD = Item("rs_1", "reasoning", is_output=True, content=b'{"dead":1}', account=NO_ACCOUNT)
THOUGHT = Item("rs_2", "reasoning", is_output=True, content=b'{"sealed":","}', account="account-1")
CALL = Item("fc_1", "function_call", is_output=True, content=b'{"call_id":"call_1"}', call_id="call_1")
SAID = Item("msg_2", "message", is_output=True, content=b'{"role":"assistant"}')
TURNS = ((USER, SAID), (), (USER, DEAD, THOUGHT, CALL))


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of schema 0001: a chain of three turns, and the memory of a fourth that is deleted."""
    url = f"sqlite:///{tmp_path}/antiphon.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("empty_postgresql_url")
    command.upgrade(alembic(url), "0001")
    with open_for_migration(url) as connection:
        connection.execute(text("INSERT INTO projects VALUES ('proj_a', 'alpha', NULL, 0)"))
        for place in range(4):
            connection.execute(insert(_responses), response(place))
        for place, items in enumerate(TURNS):
            for position, item in enumerate(items):
                connection.execute(insert(_items), row(place, position, item))
        connection.execute(text("DELETE FROM responses WHERE id = 'resp_3'"))
    return url


def alembic(url: str) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def response(place: int) -> dict[str, Any]:
    values = (place + 1, "proj_a", f"resp_{place}", place or None, "key_1", "completed", "m", "account-1", 0)
    return {**dict(zip(_RESPONSE, values, strict=True)), "expires_at": NOW + 1, "body": b"\x00body"}


def row(place: int, position: int, item: Item) -> dict[str, Any]:
    values = (place + 1, "proj_a", item.id, position, item.type, item.call_id, item.account)
    return {**dict(zip(_ITEM, values, strict=True)), "is_output": item.is_output, "content": item.content}


async def test_what_was_stored_before_is_read_as_it_was(old_url: str) -> None:
    command.upgrade(alembic(old_url), "head")
    database = Database(old_url, pool_size=1, commit_timeout=5.0)
    store = ResponseStore(database, Writer(database, 5.0), ComputeThread())
    chain = await store.read_chain("proj_a", "resp_2", NOW)
    assert chain is not None
    assert [turn.items for turn in chain.turns] == list(TURNS)
    assert [(turn.status, turn.account) for turn in chain.turns] == [("completed", "account-1")] * 3
    assert [turn.outline.reader for turn in chain.turns] == [None, None, NO_ACCOUNT]
    assert await store.read_body("proj_a", "resp_2", NOW) == b"\x00body"
    found = await store.read_items("proj_a", ["msg_1", "rs_1", "msg_2"], NOW)
    assert {name: item.content for name, item in found.items()} == {
        item.id: item.content for item in (USER, DEAD, SAID)
    }
    await database.aclose()


async def test_the_key_of_a_response_deleted_before_is_not_used_again(
    old_url: str, make_response: MakeResponse
) -> None:
    if old_url.startswith("postgres"):
        with open_for_migration(old_url) as connection:
            connection.execute(text("SELECT setval(pg_get_serial_sequence('responses', 'key'), 4)"))
    command.upgrade(alembic(old_url), "head")
    database = Database(old_url, pool_size=1, commit_timeout=5.0)
    store = ResponseStore(database, Writer(database, 5.0), ComputeThread())
    await store.save(make_response("new"))
    chain = await store.read_chain("proj_a", "resp_new", NOW)
    assert chain is not None
    assert chain.key == 5
    await database.aclose()


def test_the_way_down_brings_back_the_rows_that_were_there(old_url: str) -> None:
    command.upgrade(alembic(old_url), "0002")
    command.downgrade(alembic(old_url), "0001")
    with open_for_migration(old_url) as connection:
        items = connection.execute(select(_items).order_by(_items.c.response_key, _items.c.position)).mappings().all()
        responses = connection.execute(select(_responses).order_by(_responses.c.key)).mappings().all()
    assert [dict(item) for item in items] == [
        row(place, position, item) for place, turn in enumerate(TURNS) for position, item in enumerate(turn)
    ]
    assert [dict(kept) for kept in responses] == [response(place) for place in range(3)]
