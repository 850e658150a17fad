"""What the stores of keys and of the audit log promise, on every database."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.errors import StorageError
from app.state.audit import AuditRecord
from app.state.policies import Budget, KeyPolicy, Limits, ProjectPolicy
from app.state.records import ApiKey, Project
from app.storage.audit import Audited, AuditStore
from app.storage.engine.database import Database
from app.storage.keys.store import ChangeKey, CreateKey, FoundKey, KeyStore, MarkKey, RotateKey
from app.storage.projects.store import ChangeProject, CreateProject
from app.storage.schema_migration import open_for_migration
from app.storage.writer.writer import Rank, Write, Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.storage.conftest import NOW

KEY = ApiKey("key_1", "proj_b", "laptop", "wxyz", NOW, None, retention_days=7)
FULL = replace(
    KEY,
    id="key_full",
    owner="Ada",
    tags=("a", "b"),
    expires_at=NOW + 9,
    blocked_at=NOW + 1,
    last_used_at=NOW + 2,
    policy=KeyPolicy(
        scopes=("responses", "admin"),
        models=("gpt-5*",),
        addresses=("10.0.0.0/8",),
        limits=Limits(tokens_per_minute=5, budgets=(Budget("day", tokens=3), Budget("week", usd=0.5))),
    ),
)
RECORD = AuditRecord("audit_1", NOW, "master key", "127.0.0.1", "key.create", "key_1", b"{}")

OLD_ROW = text(
    "INSERT INTO api_keys (id, project_id, name, key_hash, hint, created_at)"
    " VALUES ('key_1', 'proj_b', 'laptop', :hash, 'wxyz', :now)"
)


class OldKey(Write[None]):
    """A key as an earlier version writes it."""

    rank: ClassVar[Rank] = Rank.META

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        connection.execute(OLD_ROW, {"hash": b"old", "now": NOW})
        return [None] * len(writes)


@pytest.fixture
def store(database: Database, writer: Writer, project: Project) -> KeyStore:
    return KeyStore(database, writer)


async def test_a_key_is_found_by_its_hash_with_all_that_is_known_of_it(store: KeyStore, writer: Writer) -> None:
    of_project = ProjectPolicy(models=("gpt*",), limits=Limits(concurrent_streams=2))
    assert await writer.submit(ChangeProject("proj_b", 1, {"policy": of_project}))
    await writer.submit(CreateKey(KEY, b"\x00hash"))
    await writer.submit(CreateKey(FULL, b"full"))
    assert await store.find(b"\x00hash") == FoundKey(replace(KEY, project_policy=of_project), None)
    assert await store.find(b"full") == FoundKey(replace(FULL, project_policy=of_project), None)
    assert await store.get("key_full") == replace(FULL, project_policy=of_project)
    assert await store.find(b"\x00has") is None
    assert await store.get("key_none") is None


async def test_a_row_of_an_earlier_version_may_do_what_it_could(store: KeyStore, writer: Writer) -> None:
    await writer.submit(OldKey())
    assert await store.find(b"old") == FoundKey(KEY, None)


async def test_keys_are_paged_newest_first_of_one_project_or_of_all(store: KeyStore, writer: Writer) -> None:
    for number in range(5):
        project_id = "proj_a" if number % 2 else "proj_b"
        made = replace(KEY, id=f"key_{number}", project_id=project_id, created_at=NOW + number // 2)
        await writer.submit(CreateKey(made, b"%d" % number))
    pages: list[list[str]] = []
    after = None
    while page := await store.list(after=after, limit=2):
        pages.append([key.id for key in page])
        after = page[-1].id
    assert pages == [["key_4", "key_3"], ["key_2", "key_1"], ["key_0"]]
    assert [key.id for key in await store.list(project_id="proj_a")] == ["key_3", "key_1"]
    assert [key.id for key in await store.list(project_id="proj_b", after="key_4")] == ["key_2", "key_0"]
    assert await store.list(after="key_unknown") == []


async def test_of_two_editors_of_a_key_the_second_changes_nothing(store: KeyStore, writer: Writer) -> None:
    await writer.submit(CreateKey(KEY, b"1"))
    changes = {"name": "desk", "tags": ("x",), "policy": KeyPolicy(models=("a",)), "expires_at": NOW + 5}
    first, second = await asyncio.gather(
        writer.submit(ChangeKey("key_1", 1, changes)), writer.submit(ChangeKey("key_1", 1, {"name": "lap"}))
    )
    assert (first, second) == (True, False)
    changed = replace(KEY, name="desk", tags=("x",), policy=KeyPolicy(models=("a",)), expires_at=NOW + 5, version=2)
    assert await store.get("key_1") == changed
    assert await writer.submit(ChangeKey("key_1", 2, {"tags": (), "policy": KeyPolicy()}))
    assert await store.get("key_1") == replace(changed, tags=(), policy=KeyPolicy(), version=3)


async def test_a_rotated_key_is_found_by_its_own_hash_and_by_the_one_before(store: KeyStore, writer: Writer) -> None:
    await writer.submit(CreateKey(KEY, b"1"))
    assert await writer.submit(RotateKey("key_1", 1, b"2", "2222", NOW + 60))
    rotated = replace(KEY, hint="2222", version=2)
    assert await store.find(b"2") == FoundKey(rotated, None)
    assert await store.find(b"1") == FoundKey(rotated, NOW + 60)
    assert not await writer.submit(RotateKey("key_1", 1, b"3", "3333", NOW + 60))
    assert await writer.submit(RotateKey("key_1", 2, b"3", "3333", NOW + 70))
    assert await store.find(b"1") is None
    assert await store.find(b"2") == FoundKey(replace(KEY, hint="3333", version=3), NOW + 70)


async def test_a_mark_is_set_and_taken_away_once_and_a_revoked_key_changes_no_more(
    store: KeyStore, writer: Writer
) -> None:
    await writer.submit(CreateKey(KEY, b"1"))
    marks = [await writer.submit(MarkKey("key_1", "blocked_at", at)) for at in (5, 6, None, None)]
    assert marks == [True, False, True, False]
    assert [await writer.submit(MarkKey(key, "revoked_at", NOW + 5)) for key in ("key_1", "key_1", "key_none")] == [
        True,
        False,
        False,
    ]
    found = await store.find(b"1")
    assert found is not None
    assert (found.key.blocked_at, found.key.revoked_at, found.key.version) == (None, NOW + 5, 4)
    assert not await writer.submit(ChangeKey("key_1", 4, {"name": "late"}))
    assert not await writer.submit(RotateKey("key_1", 4, b"2", "2222", NOW + 60))


async def test_uses_are_kept_by_the_group_and_never_go_back(store: KeyStore, writer: Writer) -> None:
    for name in ("1", "2"):
        await writer.submit(CreateKey(replace(KEY, id=f"key_{name}"), name.encode()))
    await store.note_uses({"key_1": 50, "key_2": 60, "key_gone": 1})
    await store.note_uses({"key_1": 40, "key_2": 70})
    await store.note_uses({})
    assert [(key.id, key.last_used_at, key.version) for key in await store.list()] == [
        ("key_2", 70, 1),
        ("key_1", 50, 1),
    ]


async def test_with_a_key_end_those_that_owe_it_their_right_to_administer(store: KeyStore, writer: Writer) -> None:
    makers = {"key_1": None, "key_2": "key_1", "key_3": "key_2", "key_4": None, "key_5": "key_4"}
    for number, (key_id, maker) in enumerate(makers.items()):
        await writer.submit(CreateKey(replace(KEY, id=key_id, granted_by=maker), b"%d" % number))
    # Two that showed each other end together, too.
    assert await writer.submit(RotateKey("key_4", 1, b"other", "4444", NOW, granted_by="key_5"))
    assert await store.granted_by("key_1") == ["key_2", "key_3"]
    assert await writer.submit(ChangeKey("key_3", 1, {"expires_at": NOW + 5}))
    assert await writer.submit(ChangeKey("key_1", 1, {"expires_at": NOW + 9}))
    assert await ends(store, "expires_at") == {"key_1": NOW + 9, "key_2": NOW + 9, "key_3": NOW + 5}
    assert await writer.submit(MarkKey("key_2", "revoked_at", NOW + 1))
    assert await writer.submit(MarkKey("key_1", "revoked_at", NOW + 2))
    assert await writer.submit(MarkKey("key_5", "revoked_at", NOW + 3))
    revoked = {"key_1": NOW + 2, "key_2": NOW + 1, "key_3": NOW + 1, "key_4": NOW + 3, "key_5": NOW + 3}
    assert await ends(store, "revoked_at") == revoked


async def ends(store: KeyStore, end: str) -> dict[str, int]:
    return {key.id: getattr(key, end) for key in await store.list() if getattr(key, end) is not None}


async def test_a_key_needs_a_project_and_a_hash_of_its_own(store: KeyStore, writer: Writer) -> None:
    await writer.submit(CreateKey(KEY, b"1"))
    outcomes = await asyncio.gather(
        writer.submit(CreateKey(replace(KEY, id="key_2"), b"1")),
        writer.submit(CreateKey(replace(KEY, id="key_3", project_id="proj_none"), b"3")),
        writer.submit(CreateKey(replace(KEY, id="key_4"), b"4")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError, bool]
    assert [key.id for key in await store.list()] == ["key_4", "key_1"]


async def test_a_change_and_its_record_are_one_commit(store: KeyStore, database: Database, writer: Writer) -> None:
    audit = AuditStore(database, writer)
    assert await audit.submit(CreateKey(KEY, b"1"), RECORD)
    assert not await audit.submit(ChangeKey("key_1", 9, {"name": "x"}), replace(RECORD, id="audit_2"))
    with pytest.raises(StorageError):
        await audit.submit(CreateKey(KEY, b"1"), replace(RECORD, id="audit_3"))
    with pytest.raises(StorageError):
        # No record, no change.
        await writer.submit(Audited(ChangeKey("key_1", 1, {"name": "y"}), RECORD))
    assert await audit.submit(ChangeKey("key_1", 1, {"name": "z"}), replace(RECORD, id="audit_4", subject="key_2"))
    assert [record.id for record in await audit.list(after=None, limit=9, subject=None)] == ["audit_4", "audit_1"]
    assert await audit.list(after=None, limit=9, subject="key_1") == [RECORD]
    assert await audit.list(after="audit_4", limit=9, subject=None) == [RECORD]
    assert await audit.list(after=None, limit=1, subject=None) != [RECORD]


_FORGED = (
    "(key, id, at, actor, action, subject, details) SELECT key, id, at, 'nobody', action, subject, details FROM audit"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        f"INSERT INTO audit {_FORGED} WHERE true ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
    ],
)
async def test_the_database_changes_and_deletes_no_record(
    store: KeyStore, database: Database, database_url: str, writer: Writer, statement: str
) -> None:
    audit = AuditStore(database, writer)
    await audit.submit(CreateKey(KEY, b"1"), RECORD)
    with pytest.raises(DBAPIError, match="the audit log is only added to"), open_for_migration(database_url) as by_hand:
        by_hand.execute(text(statement))
    assert await audit.list(after=None, limit=9, subject=None) == [RECORD]


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT OR REPLACE INTO audit {_FORGED}",
        f"REPLACE INTO audit {_FORGED}",
        # By one of its two names alone.
        "REPLACE INTO audit (id, at, actor, action, subject, details) SELECT id, 1, 'x', 'x', 'x', x'' FROM audit",
        f"REPLACE INTO audit {_FORGED.replace('SELECT key, id', 'SELECT key, subject')}",
        "UPDATE OR REPLACE audit SET actor = 'nobody'",
    ],
)
async def test_sqlite_replaces_no_record(sqlite_url: str, statement: str) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    writer = Writer(database, COMMIT_TIMEOUT)
    audit = AuditStore(database, writer)
    await writer.submit(CreateProject(Project(KEY.project_id, "team", None, NOW)))
    await audit.submit(CreateKey(KEY, b"1"), RECORD)
    with pytest.raises(DBAPIError, match="the audit log is only added to"), open_for_migration(sqlite_url) as by_hand:
        by_hand.execute(text(statement))
    assert await audit.submit(ChangeKey("key_1", 1, {"name": "z"}), replace(RECORD, id="audit_2"))
    assert [record.id for record in await audit.list(after=None, limit=9, subject=None)] == ["audit_2", "audit_1"]
    assert await audit.list(after="audit_2", limit=9, subject=None) == [RECORD]
    await writer.aclose()
    await database.aclose()
