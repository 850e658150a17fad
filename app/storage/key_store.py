"""Clients' API keys, by their hash. Must not know the keys themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection, insert, select, update

from app.state.records import ApiKey
from app.storage.database import Database
from app.storage.tables import api_keys, projects
from app.storage.writer import Write, Writer

_READ = select(
    api_keys.c.id,
    api_keys.c.project_id,
    api_keys.c.name,
    api_keys.c.hint,
    api_keys.c.created_at,
    api_keys.c.revoked_at,
    projects.c.retention_days,
).join(projects)


class KeyStore:
    """The keys of all projects. Times are unix seconds."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(self, key: ApiKey, key_hash: bytes) -> None:
        """Commit a new key; its project has to exist. `retention_days` is the project's and is not kept here."""
        await self._writer.submit(CreateKey(key, key_hash))

    async def list(self) -> Sequence[ApiKey]:
        """Every key, oldest first; revoked ones too."""
        oldest_first = _READ.order_by(api_keys.c.created_at, api_keys.c.id)
        rows = await self._database.read(lambda connection: connection.execute(oldest_first).all())
        return [ApiKey(*row) for row in rows]

    async def find(self, key_hash: bytes) -> ApiKey | None:
        """The key with this hash, with its project's retention. A revoked key is found too: see `revoked_at`."""
        own = _READ.where(api_keys.c.key_hash == key_hash)
        row = await self._database.read(lambda connection: connection.execute(own).one_or_none())
        return row and ApiKey(*row)

    async def get(self, key_id: str) -> ApiKey | None:
        """The key with this id, also a revoked one."""
        own = _READ.where(api_keys.c.id == key_id)
        row = await self._database.read(lambda connection: connection.execute(own).one_or_none())
        return row and ApiKey(*row)

    async def revoke(self, key_id: str, now: int) -> bool:
        """Revoke the key from `now` on; False when it is unknown or was revoked before."""
        return await self._writer.submit(RevokeKey(key_id, now))


@dataclass(frozen=True, slots=True)
class CreateKey(Write[None]):
    """A new key."""

    key: ApiKey
    key_hash: bytes

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        rows = [
            {
                "id": write.key.id,
                "project_id": write.key.project_id,
                "name": write.key.name,
                "key_hash": write.key_hash,
                "hint": write.key.hint,
                "created_at": write.key.created_at,
                "revoked_at": write.key.revoked_at,
            }
            for write in writes
        ]
        connection.execute(insert(api_keys), rows)
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class RevokeKey(Write[bool]):
    """A key's end. False when there was no living key."""

    key_id: str
    now: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        return [
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == write.key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=write.now)
            ).rowcount
            > 0
            for write in writes
        ]
