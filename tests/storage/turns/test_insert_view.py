"""The view `turns`: one statement a group, beside other writes of one transaction, and through later migrations."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from app.errors import StorageError
from app.runtime.compute_thread import ComputeThread
from app.state.records import Item, Project
from app.storage.engine.database import Database
from app.storage.engine.statements import MOST_ROWS
from app.storage.projects.store import CreateProject
from app.storage.responses.store import ResponseStore, SaveResponse
from app.storage.schema_migration import open_for_migration
from app.storage.turns import insert_view
from app.storage.writer.writer import Rank, Write, Writer
from tests.storage.conftest import NOW, MakeResponse


@dataclass(frozen=True, slots=True)
class SaveWithNote(Write[None]):
    """A response, and what has to be committed with it or not at all."""

    rank: ClassVar[Rank] = Rank.META

    response: SaveResponse

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            connection.execute(text("INSERT INTO meta VALUES (:id, 'noted')"), {"id": write.response.identity[1]})
            SaveResponse.apply(connection, [write.response])
        return [None] * len(writes)


async def notes(database: Database) -> list[str]:
    query = text("SELECT name FROM meta WHERE value = 'noted'")
    return await database.read(lambda connection: list(connection.scalars(query)))


async def test_turns_that_wait_go_into_sqlite_by_one_statement_that_is_their_transaction(
    sqlite_url: str, make_response: MakeResponse
) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
    statements: list[str] = []

    def watch(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.set_trace_callback(statements.append)

    await database.write(lambda session: session.write(watch, is_one_statement=True))
    store = ResponseStore(database, writer, ComputeThread())
    await asyncio.gather(*(store.save(make_response(f"n{number}")) for number in range(20)))
    # It is traced again at each row's trigger.
    assert len(set(statements)) == 1
    assert statements[0].startswith("INSERT INTO turns ")
    assert await store.read_body("proj_a", "resp_n19", NOW) is not None
    await writer.aclose()
    await database.aclose()


async def test_a_group_of_more_turns_than_a_statement_takes_is_kept_whole_or_not_at_all(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    group = [SaveResponse.of(make_response(f"n{number}")) for number in range(MOST_ROWS + 1)]
    taken = [*group, SaveResponse.of(make_response("n0"))]
    with pytest.raises(StorageError):
        await database.write(lambda session: session.write(lambda connection: SaveResponse.apply(connection, taken)))
    assert await responses.read_body("proj_a", "resp_n0", NOW) is None
    await asyncio.gather(*(responses._writer.submit(write) for write in group))
    assert len(await responses.read_items("proj_a", [f"msg_n{n}_in" for n in range(100)], NOW)) == MOST_ROWS + 1


async def test_a_response_and_what_belongs_to_it_are_kept_together_or_not_at_all(
    database: Database, writer: Writer, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("taken", body=b"first"))
    await writer.submit(SaveWithNote(SaveResponse.of(make_response("new"))))
    with pytest.raises(StorageError) as raised:
        await writer.submit(SaveWithNote(SaveResponse.of(make_response("taken", body=b"second"))))
    assert raised.value.code == "duplicate_response"
    assert await notes(database) == ["resp_new"]
    assert await responses.read_body("proj_a", "resp_taken", NOW) == b"first"
    assert list(await responses.read_items("proj_a", ["msg_new_out"], NOW)) == ["msg_new_out"]


async def test_ids_of_any_letters_are_found_at_their_places(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    ids = ['say "hi"', "back\\slash", "\u00fc\U0001f984", "\u2028\x01", "", "null"]
    items = tuple(Item(item_id, "message", False, b"%d" % place) for place, item_id in enumerate(ids))
    await responses.save(make_response("odd", items=items))
    found = await responses.read_items("proj_a", ids, NOW)
    assert {item_id: item.content for item_id, item in found.items()} == {item.id: item.content for item in items}


async def test_a_column_that_a_later_migration_adds_goes_in_through_the_view(
    database_url: str, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("before"))
    with open_for_migration(database_url) as connection:
        insert_view.drop(connection)
        alter = Operations(MigrationContext.configure(connection))
        recreate: Any = "always" if connection.dialect.name == "sqlite" else "never"
        with alter.batch_alter_table(
            "responses", recreate=recreate, table_kwargs={"sqlite_autoincrement": True}
        ) as table:
            table.add_column(sa.Column("extra", sa.Text(), nullable=True))
        insert_view.create(connection)
        connection.execute(
            text(
                "INSERT INTO turns (project_id, id, api_key_id, status, model, account, created_at, expires_at,"
                " outline, content, body, extra, item_ids)"
                " SELECT project_id, 'resp_extra', api_key_id, status, model, account, created_at, expires_at,"
                " outline, content, body, 'kept', '[]' FROM responses"
            )
        )
        extras = connection.scalars(text("SELECT extra FROM responses ORDER BY key")).all()
    assert extras == [None, "kept"]
    # Code that knows nothing of the column goes on.
    await responses.save(make_response("after"))
    assert await responses.read_items("proj_a", ["msg_before_in", "msg_after_in"], NOW)


def add_column(url: str) -> None:
    with open_for_migration(url) as connection:
        alter = Operations(MigrationContext.configure(connection))
        with alter.batch_alter_table("responses", recreate="always") as table:
            table.add_column(sa.Column("extra", sa.Text(), nullable=True))


def test_a_migration_that_forgets_the_view_fails(sqlite_url: str) -> None:
    with pytest.raises(OperationalError, match="error in view turns"):
        add_column(sqlite_url)
