"""Apply a retention that became shorter to what is stored already (ADR 32).

A response's row has its own expiry. So a project that keeps less than before is marked, its responses are walked
through batch by batch, and the mark goes when all of them were. Conversations need none of it: theirs is in no row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from sqlalchemy import BigInteger, Connection, bindparam, case, select, update

from app.storage.clock import DatabaseTime
from app.storage.database import Database
from app.storage.meta_store import MetaStore, Replace
from app.storage.plans import read_by_index
from app.storage.tables import projects, responses
from app.storage.writer import Rank, Write, Writer

_SECONDS_PER_DAY = 86_400
_AT_ONCE = 500
# What other processes know of a project is older than this nowhere, and a turn that ends by it is walked past.
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
# Never before now: a sweep goes by the order of expiry, and looks ahead.
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
    """How long projects keep their responses. `default_days` are those of a project that says nothing."""

    def __init__(self, database: Database, writer: Writer, default_days: int) -> None:
        self.default_days = default_days
        self._database = database
        self._writer = writer
        self._is_default_applied = False

    async def apply(self) -> None:
        """Go through every project that is marked, and take the mark from those that were marked a while ago."""
        if not self._is_default_applied:
            await self._compare_default()
            self._is_default_applied = True
        for project_id, days, shortened_at in await self._database.read(_read_marked):
            now = self._database.clock.now()
            await self.shorten(project_id, days)
            if shortened_at <= now - _STALE_SECONDS:
                await self._writer.submit(Unmark(project_id, shortened_at))

    async def shorten(self, project_id: str, days: int | None) -> None:
        """Have the project's responses expire this long after they were made, at the latest; None is the default."""
        kept = _SECONDS_PER_DAY * (days or self.default_days)
        after = ""
        while page := await self._database.read(partial(_read_page, project_id, after)):
            late = tuple([row.key for row in page if row.expires_at > row.created_at + kept])
            if late:
                await self._writer.submit(Shorten(late, kept))
            after = page[-1].id

    async def _compare_default(self) -> None:
        """Mark the projects that have no retention of their own where the setting says less than it did before."""
        meta, present = MetaStore(self._database, self._writer), str(self.default_days)
        before = await meta.write_once(_SETTING, present)
        if self.default_days < int(before):
            await self._writer.submit(MarkDefault())
        await self._writer.submit(Replace(_SETTING, before, present))


@dataclass(frozen=True, slots=True)
class Shorten(Write[None]):
    """The expiry of these responses, so many seconds after they were made, where it is later now."""

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
    """The mark of every project that has the setting's retention."""

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
    """The end of a project's mark, unless it was marked anew."""

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
