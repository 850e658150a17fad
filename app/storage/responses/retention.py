"""Apply a shorter retention to the responses that are stored already (ADR 32).

Each response's row has its own expiry. So a project that keeps less than before is marked, its responses are updated
batch by batch, and then the mark is removed. Conversations need none of it: their rows have no expiry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from sqlalchemy import BigInteger, Connection, bindparam, case, select, update

from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database
from app.storage.engine.query_plans import read_by_index
from app.storage.meta import MetaStore, Replace
from app.storage.tables import projects, responses
from app.storage.writer.writer import Rank, Write, Writer

_SECONDS_PER_DAY = 86_400
_AT_ONCE = 500
# No process's cached retention is older than this; turns saved by an older one are found before the mark goes.
_STALE_SECONDS = 60
_SETTING = "retention_days"

_READ_MARKED = select(projects.c.id, projects.c.retention_days, projects.c.shortened_at).where(
    projects.c.shortened_at.is_not(None)
)
_PAGE = (
    select(responses.c.id, responses.c.key, responses.c.created_at, responses.c.expires_at)
    .where(responses.c.project_id == bindparam("project_id"), responses.c.id > bindparam("after"))
    .order_by(responses.c.id)
    .limit(_AT_ONCE)
)
# Never before now: a sweep goes by the order of expiry, and does not look back.
_end = responses.c.created_at + bindparam("kept", type_=BigInteger)
_new_expiry = case((_end > DatabaseTime(), _end), else_=DatabaseTime())
_SHORTEN = (
    update(responses)
    .where(responses.c.key.in_(bindparam("keys", expanding=True)), responses.c.expires_at > _new_expiry)
    .values(expires_at=_new_expiry)
)
_LOCK = (
    select(responses.c.key)
    .where(responses.c.key.in_(bindparam("keys", expanding=True)))
    .order_by(responses.c.key)
    .with_for_update(skip_locked=True)
)


class Retention:
    """Shorten the expiry of stored responses. `default_days` is the retention of projects without their own."""

    def __init__(self, database: Database, writer: Writer, default_days: int) -> None:
        self.default_days = default_days
        self._database = database
        self._writer = writer
        self._is_default_applied = False

    async def apply(self) -> None:
        """Shorten the responses of every marked project, and remove the marks that are old enough."""
        if not self._is_default_applied:
            await self._compare_default()
            self._is_default_applied = True
        for project_id, days, shortened_at in await self._database.read(_read_marked):
            now = self._database.clock.now()
            await self.shorten(project_id, days)
            if shortened_at <= now - _STALE_SECONDS:
                await self._writer.submit(Unmark(project_id, shortened_at))

    async def shorten(self, project_id: str, days: int | None) -> None:
        """Make the project's responses expire at most `days` after they were made; None is the default."""
        kept = _SECONDS_PER_DAY * (days or self.default_days)
        after = ""
        while page := await self._database.read(partial(_read_page, project_id, after)):
            late = tuple([row.key for row in page if row.expires_at > row.created_at + kept])
            if late:
                await self._writer.submit(ShortenExpiry(late, kept))
            after = page[-1].id

    async def _compare_default(self) -> None:
        """Mark the projects that have no retention of their own if the setting is lower than before."""
        meta, present = MetaStore(self._database, self._writer), str(self.default_days)
        before = await meta.write_once(_SETTING, present)
        if self.default_days < int(before):
            await self._writer.submit(MarkDefault())
        await self._writer.submit(Replace(_SETTING, before, present))


@dataclass(frozen=True, slots=True)
class ShortenExpiry(Write[None]):
    """Set the expiry of these responses to `kept` seconds after they were made, where it is later now."""

    rank: ClassVar[Rank] = Rank.REMOVALS
    is_apart: ClassVar[bool] = True

    keys: tuple[int, ...]
    kept: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            keys = connection.scalars(_LOCK, {"keys": write.keys}).all()
            if keys:
                connection.execute(_SHORTEN, {"keys": keys, "kept": write.kept})
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class MarkDefault(Write[None]):
    """Mark every project that has the setting's retention."""

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        connection.execute(
            update(projects).where(projects.c.retention_days.is_(None)).values(shortened_at=DatabaseTime())
        )
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class Unmark(Write[None]):
    """Remove a project's mark, unless it was marked anew."""

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project_id: str
    shortened_at: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            own = (projects.c.id == write.project_id, projects.c.shortened_at == write.shortened_at)
            connection.execute(update(projects).where(*own).values(shortened_at=None))
        return [None] * len(writes)


def _read_marked(connection: Connection) -> Sequence[Any]:
    return connection.execute(_READ_MARKED).all()


def _read_page(project_id: str, after: str, connection: Connection) -> Sequence[Any]:
    read_by_index(connection)
    return connection.execute(_PAGE, {"project_id": project_id, "after": after}).all()
