"""Find, list, create, change, rotate and mark API keys, by id or by hash: the keys themselves never come here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, TypeAlias

from sqlalchemy import Connection, Select, bindparam, insert, or_, select, update

from app.state.records import ApiKey
from app.storage.engine.database import Database
from app.storage.engine.statements import Query
from app.storage.keys.granted_keys import end_granted, granted
from app.storage.paging import newest_first
from app.storage.projects.policy_columns import key_policy, packed, packed_tags, project_policy, tags
from app.storage.tables import api_keys, projects
from app.storage.writer.writer import Rank, Write, Writer

_Columns = tuple[Any, ...]

_KEPT = (
    api_keys.c.id,
    api_keys.c.project_id,
    api_keys.c.name,
    api_keys.c.hint,
    api_keys.c.created_at,
    api_keys.c.revoked_at,
    projects.c.retention_days,
    api_keys.c.owner,
    api_keys.c.tags,
    api_keys.c.expires_at,
    api_keys.c.blocked_at,
    api_keys.c.last_used_at,
    api_keys.c.version,
    api_keys.c.policy,
    projects.c.policy,
    api_keys.c.granted_by,
)
_READ: Select[*_Columns] = select(*_KEPT).join(projects)
# As text, because every key in use is looked up every few seconds.
_FIND = Query(
    select(*_KEPT, api_keys.c.key_hash, api_keys.c.previous_until)
    .join(projects)
    .where(or_(api_keys.c.key_hash == bindparam("key_hash"), api_keys.c.previous_hash == bindparam("key_hash")))
)

Mark: TypeAlias = Literal["revoked_at", "blocked_at"]


@dataclass(frozen=True, slots=True)
class FoundKey:
    """Report the key found by a hash; `until` (unix seconds) ends the hash, if it is from before a rotation."""

    key: ApiKey
    until: int | None


class KeyStore:
    """Read the keys of all projects, each with its project's policy and retention. Times are unix seconds."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def list(
        self, *, project_id: str | None = None, after: str | None = None, limit: int = 50
    ) -> Sequence[ApiKey]:
        """List keys of a project or of all, made before the key `after`, newest first; revoked ones too."""
        page = newest_first(_READ, api_keys, after=after, limit=limit)
        if project_id is not None:
            page = page.where(api_keys.c.project_id == project_id)
        rows = await self._database.read(lambda connection: connection.execute(page).all())
        return [_key(row) for row in rows]

    async def find(self, key_hash: bytes) -> FoundKey | None:
        """Find the key with this hash, or that had it before its last rotation: also a revoked or expired one."""
        rows = await self._database.read(lambda connection: _FIND.fetch(connection, {"key_hash": key_hash}))
        if not rows:
            return None
        *kept, current, until = rows[0]
        return FoundKey(_key(kept), None if current == key_hash else until)

    async def get(self, key_id: str) -> ApiKey | None:
        """Return the key with this id, also a revoked one."""
        own = _READ.where(api_keys.c.id == key_id)
        row = await self._database.read(lambda connection: connection.execute(own).one_or_none())
        return None if row is None else _key(row)

    async def with_own_policy(self) -> Collection[ApiKey]:
        """Return the keys that have a policy of their own, and are neither revoked nor blocked."""
        own = _READ.where(
            api_keys.c.policy.is_not(None), api_keys.c.revoked_at.is_(None), api_keys.c.blocked_at.is_(None)
        )
        rows = await self._database.read(lambda connection: connection.execute(own).all())
        return [_key(row) for row in rows]

    async def granted_by(self, key_id: str) -> Sequence[str]:
        """Return the ids of the keys that end with this one: those it granted, and those that they granted."""
        return await self._database.read(lambda connection: granted(connection, key_id))

    async def note_uses(self, last_used: Mapping[str, int]) -> None:
        """Commit when each of these keys was last used, by id."""
        await self._writer.submit(NoteUses(last_used))


@dataclass(frozen=True, slots=True)
class CreateKey(Write[bool]):
    """Insert a key with its hash."""

    rank: ClassVar[Rank] = Rank.KEYS
    is_apart: ClassVar[bool] = True

    key: ApiKey
    key_hash: bytes = field(repr=False)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        connection.execute(insert(api_keys), [_row(write.key) | {"key_hash": write.key_hash} for write in writes])
        return [True] * len(writes)


@dataclass(frozen=True, slots=True)
class ChangeKey(Write[bool]):
    """Change a key's own fields; False when it is not at this version any more, or was revoked.

    Keys that it granted expire when it does, at the latest.
    """

    rank: ClassVar[Rank] = Rank.KEYS
    is_apart: ClassVar[bool] = True

    key_id: str
    version: int
    values: Mapping[str, Any]

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        results = []
        for write in writes:
            results.append(_change(connection, write.key_id, write.version, _columns(write.values)))
            end = write.values.get("expires_at")
            if results[-1] and end is not None:
                end_granted(connection, write.key_id, "expires_at", end)
        return results


@dataclass(frozen=True, slots=True)
class RotateKey(Write[bool]):
    """Replace a key's hash; the hash before is valid until `previous_until`. False as in `ChangeKey`.

    `granted_by` is the key whose holder is shown the new key.
    """

    rank: ClassVar[Rank] = Rank.KEYS
    is_apart: ClassVar[bool] = True

    key_id: str
    version: int
    key_hash: bytes = field(repr=False)
    hint: str
    previous_until: int
    granted_by: str | None = None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        return [
            _change(
                connection,
                write.key_id,
                write.version,
                {
                    "key_hash": write.key_hash,
                    "hint": write.hint,
                    "previous_hash": api_keys.c.key_hash,
                    "previous_until": write.previous_until,
                    "granted_by": write.granted_by,
                },
            )
            for write in writes
        ]


@dataclass(frozen=True, slots=True)
class MarkKey(Write[bool]):
    """Set a key's mark to this time, or remove it with None; False when it was so before, or the key is unknown.

    Keys that a revoked key granted are revoked with it.
    """

    rank: ClassVar[Rank] = Rank.KEYS
    is_apart: ClassVar[bool] = True

    key_id: str
    mark: Mark
    at: int | None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        results = []
        for write in writes:
            column = api_keys.c[write.mark]
            other = column.is_not(None) if write.at is None else column.is_(None)
            marked = update(api_keys).where(api_keys.c.id == write.key_id, other)
            marked = marked.values({write.mark: write.at, "version": api_keys.c.version + 1})
            results.append(connection.execute(marked).rowcount > 0)
            if results[-1] and write.mark == "revoked_at" and write.at is not None:
                end_granted(connection, write.key_id, "revoked_at", write.at)
        return results


@dataclass(frozen=True, slots=True)
class NoteUses(Write[None]):
    """Set when keys were last used; a time before the stored one changes nothing."""

    rank: ClassVar[Rank] = Rank.KEYS
    is_apart: ClassVar[bool] = True

    last_used: Mapping[str, int]

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        used_before = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < bindparam("at"))
        note = update(api_keys).where(api_keys.c.id == bindparam("of"), used_before)
        rows = [{"of": key_id, "at": at} for write in writes for key_id, at in sorted(write.last_used.items())]
        if rows:
            connection.execute(note.values(last_used_at=bindparam("at")), rows)
        return [None] * len(writes)


def _change(connection: Connection, key_id: str, version: int, values: Mapping[str, Any]) -> bool:
    own = update(api_keys).where(
        api_keys.c.id == key_id, api_keys.c.version == version, api_keys.c.revoked_at.is_(None)
    )
    return connection.execute(own.values({**values, "version": version + 1})).rowcount > 0


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "project_id": key.project_id,
        "name": key.name,
        "hint": key.hint,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "owner": key.owner,
        "tags": packed_tags(key.tags),
        "expires_at": key.expires_at,
        "blocked_at": key.blocked_at,
        "last_used_at": key.last_used_at,
        "version": key.version,
        "policy": packed(key.policy),
        "granted_by": key.granted_by,
    }


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(values)
    if "policy" in kept:
        kept["policy"] = packed(kept["policy"])
    if "tags" in kept:
        kept["tags"] = packed_tags(kept["tags"])
    return kept


def _key(row: Sequence[Any]) -> ApiKey:
    key_id, project_id, name, hint, created_at, revoked_at, retention_days, owner, labels = row[:9]
    expires_at, blocked_at, last_used_at, version, policy, of_project, granted_by = row[9:]
    return ApiKey(
        key_id,
        project_id,
        name,
        hint,
        created_at,
        revoked_at,
        retention_days,
        owner,
        tags(labels),
        expires_at,
        blocked_at,
        last_used_at,
        version,
        key_policy(policy),
        project_policy(of_project),
        granted_by,
    )
