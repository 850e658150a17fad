"""Remove conversations that were unchanged for as long as their project keeps them (ADR 32).

No conversation's row has an expiry: a project that keeps less than before applies it at the next sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, Self

from sqlalchemy import Connection, and_, bindparam, delete, select

from app.settings.gateway import StorageSettings
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database
from app.storage.engine.query_plans import read_by_index
from app.storage.engine.statements import unindexed
from app.storage.tables import conversations, projects
from app.storage.turns.conversation_turns import USED_AT
from app.storage.writer.writer import Rank, Write, Writer

_SECONDS_PER_DAY = 86_400
_PROJECTS_AT_ONCE = 100
# Conversations of one project in one look, and those of one commit.
_FOUND_AT_ONCE = 100
_REMOVED_AT_ONCE = 10

_READ_PROJECTS = (
    select(projects.c.id, projects.c.conversation_days, projects.c.retention_days)
    .where(projects.c.id > bindparam("after"))
    .order_by(projects.c.id)
    .limit(_PROJECTS_AT_ONCE)
)
_of_project = unindexed(conversations.c.project_id) == bindparam("project_id")
# In two statements, each a range of the index.
_IDLE = tuple(
    select(conversations.c.key).where(_of_project, *idle).order_by(*order).limit(_FOUND_AT_ONCE)
    for idle, order in (
        ((conversations.c.used_at < bindparam("before"),), (conversations.c.used_at,)),
        (
            (conversations.c.used_at.is_(None), conversations.c.created_at < bindparam("before")),
            (conversations.c.created_at,),
        ),
    )
)
_is_locked = and_(conversations.c.held_until.is_not(None), conversations.c.held_until > DatabaseTime())
_FREE = (
    select(conversations.c.key)
    .where(conversations.c.key.in_(bindparam("keys", expanding=True)), bindparam("before") > USED_AT, ~_is_locked)
    .order_by(conversations.c.key)
    .with_for_update(skip_locked=True)
)
_DELETE = delete(conversations).where(conversations.c.key.in_(bindparam("keys", expanding=True)))


class ConversationExpiry:
    """Sweep idle conversations for one process. Times are unix seconds, by the database's clock."""

    def __init__(self, database: Database, writer: Writer, settings: StorageSettings) -> None:
        self._database = database
        self._writer = writer
        self._settings = settings

    async def remove(self, now: int) -> int:
        """Remove idle conversations with their turns, but no locked one; return how many."""
        removed, after = 0, ""
        while found := await self._database.read(partial(self._look, after, now)):
            for idle in found:
                removed += await self._remove(idle)
            after = found[-1].project_id
        return removed

    def _look(self, after: str, now: int, connection: Connection) -> Sequence["Idle"]:
        """Return the projects that follow `after`, each with some of its idle conversations."""
        read_by_index(connection)
        default = self._settings.conversation_days or self._settings.retention_days
        return [
            _idle_of(project_id, now - _SECONDS_PER_DAY * (own_days or days or default), connection)
            for project_id, own_days, days in connection.execute(_READ_PROJECTS, {"after": after}).all()
        ]

    async def _remove(self, idle: "Idle") -> int:
        removed = 0
        while idle.keys:
            before = removed
            for start in range(0, len(idle.keys), _REMOVED_AT_ONCE):
                some = tuple(idle.keys[start : start + _REMOVED_AT_ONCE])
                removed += await self._writer.submit(RemoveIdle(some, idle.before))
            # The rest are locked, by a call or by another transaction.
            if len(idle.keys) < _FOUND_AT_ONCE or removed == before:
                break
            idle = await self._database.read(partial(_read_idle, idle))
        return removed


class Idle(NamedTuple):
    """List some conversations of a project that were last changed before this time."""

    project_id: str
    before: int
    keys: Sequence[int]


def _read_idle(last: Idle, connection: Connection) -> Idle:
    read_by_index(connection)
    return _idle_of(last.project_id, last.before, connection)


def _idle_of(project_id: str, before: int, connection: Connection) -> Idle:
    given = {"project_id": project_id, "before": before}
    return Idle(project_id, before, [key for query in _IDLE for (key,) in connection.execute(query, given)])


@dataclass(frozen=True, slots=True)
class RemoveIdle(Write[int]):
    """Remove these conversations if they were last changed before this time and are not locked; return how many."""

    rank: ClassVar[Rank] = Rank.CONVERSATIONS
    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True
    erases_later: ClassVar[bool] = True

    keys: tuple[int, ...]
    before: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int]:
        return [_remove(connection, write) for write in writes]


def _remove(connection: Connection, write: RemoveIdle) -> int:
    free = connection.scalars(_FREE, {"keys": write.keys, "before": write.before}).all()
    if free:
        connection.execute(_DELETE, {"keys": free})
    return len(free)
