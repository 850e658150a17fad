"""A project is erased with all that it has, and what ends that is gone on with, on every database."""

import pytest
from sqlalchemy import Connection, func, select

from app.errors import ConflictError, NotFoundError, StorageError
from app.settings.limits import LimitsSettings
from app.state.idempotency import KeyedRequest
from app.state.limit_windows import Claim, Limit
from app.state.records import ApiKey, Conversation, TokenUsage
from app.state.runs import Page, RunRequest
from app.state.usage import UsageEntry
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.idempotency.store import IdempotencyStore
from app.storage.keys.store import CreateKey
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.projects import erasure as project_erasure
from app.storage.responses.store import ResponseStore
from app.storage.runs.store import RunStore
from app.storage.tables import metadata
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer
from tests.administration.conftest import MASTER, Office, office_of
from tests.storage.conftest import NOW, MakeResponse, message

# What no project has of its own, and what says what was done.
_NOT_OF_A_PROJECT = {"meta", "audit", "conditions", "account_controls", "upstreams", "upstream_keys"}


@pytest.fixture
def office(database: Database, writer: Writer) -> Office:
    return office_of(database, writer)


async def rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""

    def count(connection: Connection) -> dict[str, int]:
        tables = [table for table in metadata.sorted_tables if table.name not in _NOT_OF_A_PROJECT]
        return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}

    return await database.read(count)


@pytest.fixture
async def other_project(
    database: Database,
    writer: Writer,
    responses: ResponseStore,
    conversations: ConversationStore,
    *,
    runs: RunStore,
    usage: UsageStore,
    limits: DatabaseCounts,
    make_response: MakeResponse,
) -> dict[str, int]:
    """With something of each kind in both projects; returns the rows that the second has."""
    for project_id, conversation_id in (("proj_a", "conv_1"), ("proj_b", "conv_other")):
        key_id = f"key_of_{project_id}"
        await writer.submit(CreateKey(ApiKey(key_id, project_id, "k", "h", NOW, None, None), key_id.encode()))
        for number in range(3):
            name = f"{project_id}_{number}"
            await responses.save(make_response(name, project_id=project_id))
            order = RunRequest(f"resp_run_{name}", project_id, key_id, True, True, {}, b"{}")
            await runs.create(order, b"{}", Page(0, 0, b"x"), owner="o", lease_seconds=60, most=100)
            await conversations.create(project_id, Conversation(f"conv_{name}", NOW, b"{}"), [message(name)])
        await conversations.add_items(project_id, conversation_id, [message("1")])
        keyed = KeyedRequest(project_id, key_id, "name", b"fingerprint")
        await IdempotencyStore(database, writer, LimitsSettings()).claim(keyed, "owner", 60)
        entry = UsageEntry(NOW, "r", project_id, key_id, "responses", "m", is_stream=False, is_background=False)
        entry.usage = TokenUsage(1, 1, 2, 0, 0)
        await usage.record([entry])
        for owner in (project_id, key_id):
            await limits.draw([Claim(Limit(owner, "API key", "tokens", "day", 100), 1)], "")
            await limits.draw([Claim(Limit(owner, "API key", "streams", None, 100), 1)], f"stream_{owner}")
    both = await rows(database)
    assert all(count % 2 == 0 for name, count in both.items() if name != "conversation_responses"), both
    return {name: count // 2 for name, count in both.items()}


async def test_all_that_a_project_has_is_gone_and_another_has_all_of_its_own(
    database: Database, office: Office, other_project: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {name for name, count in other_project.items() if not count} <= {"conversation_responses"}
    monkeypatch.setattr(project_erasure, "_AT_ONCE", 2)
    await office.projects.erase(MASTER, "proj_a")
    assert await rows(database) == other_project
    with pytest.raises(NotFoundError):
        await office.projects.get("proj_a")
    assert await office.actions() == ["project.erase", "project.erased"]
    assert "proj_a" in office.changed


async def test_every_table_of_a_project_is_erased_by_name_or_with_another() -> None:
    named = {table.name for table in project_erasure._WHOSE}
    together = {"items", "conversation_responses", "conversation_items", "run_events", "usage_days"}
    assert named | together | {"projects"} | _NOT_OF_A_PROJECT == set(metadata.tables)


async def test_what_was_begun_is_gone_on_with_by_anybody(
    database: Database, office: Office, other_project: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(*_: object) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(project_erasure.ProjectErasure, "empty", ends)
        with pytest.raises(StorageError):
            await office.projects.erase(MASTER, "proj_a")
    marked = await office.projects.get("proj_a")
    assert marked.erasing_at is not None
    assert (await office.store.get("key_of_proj_a")).revoked_at is not None  # type: ignore[union-attr]  # it is there
    with pytest.raises(ConflictError, match="is being erased"):
        await office.keys.create(MASTER, project_id="proj_a", name="late")
    with pytest.raises(ConflictError, match="is being erased"):
        await office.projects.update(MASTER, "proj_a", {"name": "x"}, version=marked.version)
    await office.projects.erase_marked()
    assert await rows(database) == other_project
    assert await office.actions() == ["project.erase", "project.erased"]


async def test_what_a_call_leaves_meanwhile_goes_too(
    database: Database,
    office: Office,
    other_project: dict[str, int],
    responses: ResponseStore,
    *,
    make_response: MakeResponse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty, rounds = project_erasure.ProjectErasure.empty, 0

    async def empty_and_be_late(self: project_erasure.ProjectErasure, project_id: str) -> None:
        nonlocal rounds
        rounds += 1
        await empty(self, project_id)
        if rounds == 1:
            await responses.save(make_response("late"))

    monkeypatch.setattr(project_erasure.ProjectErasure, "empty", empty_and_be_late)
    await office.projects.erase(MASTER, "proj_a")
    assert rounds == 2
    assert await rows(database) == other_project
