"""What PostgreSQL reads for each statement of a call, on tables that grew faster than their statistics."""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import event

import app.storage
from app.runtime.compute_thread import ComputeThread
from app.state.items.item_pages import PageQuery
from app.state.items.turn_packing import pack
from app.state.limit_windows import Claim, Correction
from app.state.records import NO_ACCOUNT, Conversation, Project
from app.state.runs import Page
from app.storage.conversations.item_removal import RemoveItems
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.database import Database
from app.storage.engine.statements import Query
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.projects.store import CreateProject
from app.storage.responses.store import ResponseStore
from app.storage.runs.store import RunStore
from app.storage.runs.writes import TakeBackRun
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Rank, Write, Writer
from tests.conftest import COMMIT_TIMEOUT, run_sql
from tests.fakes.counted import REQUESTS, STREAMS
from tests.fakes.ordered_runs import LEASE, order
from tests.storage.conftest import NOW, MakeResponse, message
from tests.storage.usage.test_store import entry

ROWS = 50_000
# What a look of the ledger's sweep takes in, twice, and some more: every other statement reads a few.
MOST_READ = 3500

_OF_CALLS = {Rank.LIMITS, Rank.RUNS, Rank.CONVERSATIONS, Rank.REMOVALS, Rank.TURNS, Rank.USAGE}
# Made by duties that no call waits for.
_OF_DUTIES = {
    *("EndOtherLeases", "PurgeLimits", "PurgeRuns", "PurgeUsage"),
    *("EraseSome", "ExtendResponses", "RemoveExpired", "RemoveIdle", "ShortenExpiry"),
}
# Looks for keys, which are few.
_OF_KEYS = {"app.storage.keys.store"}

_TABLES = ("responses", "items", "usage", "conversations", "conversation_turns", "conversation_items", "runs")
_OUTLINE = msgspec.msgpack.encode(pack("completed", NO_ACCOUNT, [message("old")]).outline).hex()

Statements = list[tuple[str, Any]]


class SeenWriter(Writer):
    """Takes note of the kinds of writes."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, COMMIT_TIMEOUT)
        self.kinds: set[str] = set()

    async def submit(self, write: Write[Any]) -> Any:
        self.kinds.add(type(write).__name__)
        return await super().submit(write)

    def hand_in(self, write: Write[Any]) -> Any:
        self.kinds.add(type(write).__name__)
        return super().hand_in(write)


@pytest.fixture(params=["no statistics", pytest.param("those of a small table", marks=pytest.mark.slow)])
async def grown(
    request: pytest.FixtureRequest, postgresql_url: str
) -> AsyncIterator[tuple[Database, SeenWriter, Statements]]:
    """A project with many rows of everything, on tables that were analyzed while they had few of another, or never."""
    database = Database(postgresql_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    writer, statements = SeenWriter(database), recorded(database)
    for project_id in ("proj_a", "proj_b"):
        await writer.submit(CreateProject(Project(project_id, project_id, None, NOW)))
    run_sql(postgresql_url, *[f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in _TABLES])
    if request.param != "no statistics":
        run_sql(postgresql_url, *filled("proj_b", 100), *[f"ANALYZE {table}" for table in _TABLES])
    run_sql(postgresql_url, *filled("proj_a", ROWS))
    statements.clear()
    yield database, writer, statements
    await writer.aclose()
    await database.aclose()


async def test_no_statement_of_a_call_depends_on_statistics(
    grown: tuple[Database, SeenWriter, Statements], postgresql_url: str, make_response: MakeResponse
) -> None:
    database, writer, statements = grown
    await call_everything(database, writer, make_response)
    assert writer.kinds >= {kind.__name__ for kind in kinds(Write) if kind.rank in _OF_CALLS} - _OF_DUTIES
    texts = {text for text, _ in statements}
    queries = set(compiled_queries(database))
    assert len(queries) > 4
    assert queries <= texts
    with psycopg.connect(postgresql_url) as connection:
        read = {text: rows_read(connection, text, given) for text, given in statements if has_plan(text)}
    assert {text: rows for text, rows in read.items() if rows > MOST_READ} == {}
    assert len(read) > 30


def filled(project_id: str, count: int) -> list[str]:
    """The statements that give a project so many rows of everything."""
    text = Path(__file__).with_name("grown.sql").read_text()
    return text.format(project=project_id, count=count, now=NOW, outline=_OUTLINE).split(";")


def recorded(database: Database) -> Statements:
    """What the database's connections are asked from now on, with the parameters."""
    statements: Statements = []

    class Recording(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            statements.append((str(query), params))
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Any, **options: Any) -> Any:
            statements.extend((str(query), params) for params in params_seq)
            return super().executemany(query, params_seq, **options)

    for engine in (database.reader, database.writer):
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "cursor_factory", Recording))
    return statements


async def call_everything(database: Database, writer: Writer, make_response: MakeResponse) -> None:
    """What calls do to the database, each of it once."""
    responses, limits = ResponseStore(database, writer, ComputeThread()), DatabaseCounts(database, writer)
    await responses.save(make_response("new"))
    chain = await responses.read_chain("proj_a", "resp_new", NOW)
    assert chain is not None
    await responses.save(make_response("next", chain.key))
    chain = await responses.read_chain("proj_a", "resp_next", NOW)
    assert chain is not None
    assert len(chain.turns) == 2
    assert await responses.read_body("proj_a", "resp_next", NOW) == b"{}"
    assert await responses.read_account("proj_a", "resp_next", NOW) == "account-1"
    assert await responses.read_items("proj_a", ["msg_often", "msg_next_in", "msg_7"], NOW)
    drawn = await limits.draw([Claim(REQUESTS, 1), Claim(STREAMS, 1)], "stream")
    await limits.renew()
    await limits.read([REQUESTS, STREAMS])
    began = drawn.standings[0].began_at
    await limits.reconcile([Correction(REQUESTS, 1, began), Correction(STREAMS, 1, began)], "stream")
    usage = UsageStore(database, writer)
    known, new = entry(response_id="resp_7", is_stored=True), entry(response_id="resp_next", is_stored=True)
    await usage.record([known, new], swept=1)
    await usage.unrecorded(NOW + 1000, 1)
    await converse(ConversationLockStore(database, writer), ConversationStore(database, writer), make_response)
    await run(RunStore(database, writer))
    assert await responses.delete("proj_a", "resp_next", NOW)


async def converse(holds: ConversationLockStore, conversations: ConversationStore, make_response: MakeResponse) -> None:
    key = await holds.find("proj_a", "conv_77")
    held = await holds.acquire("proj_a", "conv_77", "call", LEASE)
    await holds.extend([held], LEASE)
    await holds.read_items(key, ["msg_7"])
    await holds.save(SaveTurn.of(make_response("turn"), held, 0, {}))
    await holds.read_turns(key)
    await holds.release(held)
    await conversations.create("proj_a", Conversation("conv_new", NOW, b"{}"), [message("one")])
    await conversations.read("proj_a", "conv_new")
    await conversations.describe("proj_a", "conv_new", b'{"a":"b"}')
    # This one is long.
    for conversation_id in ("conv_new", "conv_1"):
        await conversations.add_items("proj_a", conversation_id, [message("two")])
        for query in (PageQuery(), PageQuery(ascending=True), PageQuery(after="msg_two"), PageQuery(before="msg_two")):
            await conversations.read_page("proj_a", conversation_id, query)
        await conversations.delete_item("proj_a", conversation_id, "msg_two")
    await holds._writer.submit(RemoveItems(key, ["msg_7"]))
    await conversations.delete("proj_a", "conv_new")


async def run(runs: RunStore) -> None:
    ordered = order("run")
    made = await runs.create(ordered, b"{}", Page(0, 1, b"a"), owner="me", lease_seconds=LEASE, most=ROWS)
    assert made is not None
    assert await runs.find("proj_a", "resp_run")
    await runs.watch("me")
    await runs.renew("me", [made.key], LEASE)
    assert await runs.start(made, b"{}")
    assert await runs.append(made, Page(2, 3, b"b"))
    await runs.read_log(made.key, -1)
    await runs.request_cancel(made.key)
    assert await runs.put_back(made, 0)
    assert await runs.have_more({made.key: 0}) == {made.key}
    (ended,) = [sighting.key for sighting in await runs.watch("other") if not sighting.is_own]
    (made,) = await runs.claim("me", LEASE, [ended])
    # All that waits is behind another in its conversation.
    assert await runs.waiting(["resting"], 60) == []
    assert await runs.end(made, "cancelled", b"{}", keep_seconds=60, turn=None)
    assert await runs.delete("proj_a", "resp_run")
    made = await runs.create(ordered, b"{}", None, owner="me", lease_seconds=LEASE, most=ROWS)
    assert made is not None
    assert await runs._writer.submit(TakeBackRun(made.key, made.epoch))


def kinds(kind: type[Any]) -> Iterator[type[Any]]:
    """The kinds of writes that are there, of all modules of the storage."""
    for module in pkgutil.walk_packages(app.storage.__path__, "app.storage."):
        importlib.import_module(module.name)
    for below in kind.__subclasses__():
        yield from kinds(below)
        if below.__module__.startswith("app.storage.") and not inspect.isabstract(below):
            yield below


def compiled_queries(database: Database) -> Iterator[str]:
    """The texts of all queries that are kept compiled."""
    for module in pkgutil.walk_packages(app.storage.__path__, "app.storage."):
        if module.name not in _OF_KEYS:
            for query in vars(importlib.import_module(module.name)).values():
                if isinstance(query, Query):
                    yield str(query._statement.compile(dialect=database.reader.dialect))


def has_plan(text: str) -> bool:
    """Whether the database has to look for rows."""
    first = text.split(None, 1)[0].upper()
    return first in {"SELECT", "WITH", "UPDATE", "DELETE"} or (first == "INSERT" and " VALUES " not in text)


def rows_read(connection: psycopg.Connection, text: str, given: Any) -> float:
    """How many rows of tables and indexes it takes to run this."""
    # Of an INSERT that was made already, what it looks for.
    looks = text[text.index("SELECT") :] if text.startswith("INSERT") else text
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {looks}".encode(), given)
        ((plans,),) = cursor.fetchall()
    connection.rollback()
    return sum(_read_by(node) for node in _nodes(plans[0]["Plan"]) if "Scan" in node["Node Type"])


def _read_by(node: dict[str, Any]) -> float:
    if "Relation Name" not in node and "Index Name" not in node:
        return 0
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    rows: float = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return rows


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
