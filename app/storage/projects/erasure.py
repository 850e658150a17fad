"""Erase a project: all its rows, batch by batch, then the project itself. Any process can continue it (ADR 32).

The audit log stays: it names the project and its keys, and has no content.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from sqlalchemy import BindParameter, Connection, Select, Table, bindparam, delete, exists, or_, select, tuple_, update

from app.errors import StorageError
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database
from app.storage.idempotency.tables import idempotency_keys
from app.storage.limits.tables import limit_counts, limit_streams
from app.storage.tables import api_keys, conversation_turns, conversations, projects, responses, runs
from app.storage.usage.tables import usage, usage_hours
from app.storage.writer.writer import Rank, Write, Writer

# Between two rounds, in which running calls may write more.
_PAUSE_SECONDS = 0.2
_TRIES = 25
# Rows of one commit; other rows may be deleted with each.
_AT_ONCE = 100

_ID: BindParameter[str] = bindparam("project_id")
_keys_of = select(api_keys.c.id).where(api_keys.c.project_id == _ID)
_conversations_of = select(conversations.c.key).where(conversations.c.project_id == _ID)


def _rows(table: Table) -> Select[Any]:
    return select(*table.primary_key.columns)


def _of(table: Table) -> Select[Any]:
    return _rows(table).where(table.c.project_id == _ID)


def _owned(table: Table) -> Select[Any]:
    return _rows(table).where(or_(table.c.owner == _ID, table.c.owner.in_(_keys_of)))


# In this order: content first, and keys last, because the counts of limits are found by the keys' ids. Rows are read in
# the order of the index that finds them, else PostgreSQL may read the deleted ones again and again.
_WHOSE: Mapping[Table, Select[Any]] = MappingProxyType(
    {
        runs: _of(runs).order_by(runs.c.id),
        conversation_turns: _rows(conversation_turns).where(
            conversation_turns.c.conversation_key.in_(_conversations_of)
        ),
        conversations: _of(conversations).order_by(conversations.c.id),
        responses: _of(responses).order_by(responses.c.id),
        idempotency_keys: _of(idempotency_keys).order_by(idempotency_keys.c.api_key_id, idempotency_keys.c.name),
        usage: _of(usage).order_by(usage.c.at),
        usage_hours: _of(usage_hours).order_by(usage_hours.c.hour),
        limit_counts: _owned(limit_counts),
        limit_streams: _owned(limit_streams),
        api_keys: _of(api_keys).order_by(api_keys.c.created_at, api_keys.c.id),
    }
)


class ProjectErasure:
    """Erase the projects that are marked for it."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def marked(self) -> Sequence[str]:
        """Return the ids of the projects that are being erased."""
        query = select(projects.c.id).where(projects.c.erasing_at.is_not(None))
        return await self._database.read(lambda connection: connection.scalars(query).all())

    async def empty(self, project_id: str) -> None:
        """Remove all rows of the project, but for its own."""
        for table in _WHOSE:
            while await self._writer.submit(EraseSome(project_id, table)):
                pass

    async def empty_log(self) -> None:
        """Erase the removed content from the database's log, unless a reader uses the log for long."""
        for _ in range(_TRIES):
            try:
                await self._database.finish_erasure()
            except StorageError:
                await self.pause()
            else:
                return

    async def pause(self) -> None:
        """Wait for what running calls may still write."""
        await asyncio.sleep(_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class MarkErasing(Write[bool]):
    """Mark a project as being erased and revoke its keys; False when it is marked, or unknown."""

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project_id: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        return [_mark(connection, write.project_id) for write in writes]


def _mark(connection: Connection, project_id: str) -> bool:
    own = (projects.c.id == project_id, projects.c.erasing_at.is_(None))
    marked = update(projects).where(*own).values(erasing_at=DatabaseTime(), version=projects.c.version + 1)
    if not connection.execute(marked).rowcount:
        return False
    living = (api_keys.c.project_id == project_id, api_keys.c.revoked_at.is_(None))
    revoked = update(api_keys).where(*living).values(revoked_at=DatabaseTime(), version=api_keys.c.version + 1)
    connection.execute(revoked)
    return True


@dataclass(frozen=True, slots=True)
class EraseSome(Write[int]):
    """Remove some rows of a project from one table; the result is how many."""

    rank: ClassVar[Rank] = Rank.REMOVALS
    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True
    erases_later: ClassVar[bool] = True

    project_id: str
    table: Table

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int]:
        return [_erase_some(connection, write) for write in writes]


def _erase_some(connection: Connection, write: EraseSome) -> int:
    # Locked rows are left for the next round.
    some = _WHOSE[write.table].limit(_AT_ONCE).with_for_update(skip_locked=True)
    found = connection.execute(some, {"project_id": write.project_id}).all()
    if found:
        identity = tuple_(*write.table.primary_key.columns)
        connection.execute(delete(write.table).where(identity.in_([tuple(row) for row in found])))
    return len(found)


@dataclass(frozen=True, slots=True)
class EraseProject(Write[bool]):
    """Delete a marked project that has no rows left; False when it has some."""

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project_id: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        nothing_left = [~exists(rows) for rows in _WHOSE.values()]
        erased = delete(projects).where(projects.c.id == _ID, projects.c.erasing_at.is_not(None), *nothing_left)
        return [connection.execute(erased, {"project_id": write.project_id}).rowcount > 0 for write in writes]
