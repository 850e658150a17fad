"""Find, list, create and change projects, which own all stored state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import Connection, Select, select, update
from sqlalchemy.exc import DBAPIError

from app.errors import StorageError
from app.state.records import Project
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database, is_conflict
from app.storage.paging import newest_first
from app.storage.projects.policy_columns import packed, project_policy
from app.storage.tables import insert_if_new, projects
from app.storage.writer.writer import Rank, Write

_Columns = tuple[Any, ...]

NAME_TAKEN = "name_taken"
"""The code of the StorageError for a name that another project has taken meanwhile."""

_READ: Select[*_Columns] = select(
    projects.c.id,
    projects.c.name,
    projects.c.retention_days,
    projects.c.created_at,
    projects.c.policy,
    projects.c.version,
    projects.c.conversation_days,
    projects.c.erasing_at,
)


class ProjectStore:
    """Read projects, by their unique ids and names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, *, after: str | None = None, limit: int = 50) -> Sequence[Project]:
        """List projects made before the project `after`, newest first."""
        page = newest_first(_READ, projects, after=after, limit=limit)
        rows = await self._database.read(lambda connection: connection.execute(page).all())
        return [_project(row) for row in rows]

    async def find(self, name: str) -> Project | None:
        """Return the project of this name."""
        return await self._one(_READ.where(projects.c.name == name))

    async def get(self, project_id: str) -> Project | None:
        """Return the project with this id."""
        return await self._one(_READ.where(projects.c.id == project_id))

    async def _one(self, query: Select[*_Columns]) -> Project | None:
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _project(row)


@dataclass(frozen=True, slots=True)
class CreateProject(Write[bool]):
    """Insert a project; False when its name or id is taken."""

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project: Project

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        statement = insert_if_new(projects, connection.dialect).returning(projects.c.id)
        return [connection.scalar(statement, _row(write.project)) is not None for write in writes]


@dataclass(frozen=True, slots=True)
class ChangeProject(Write[bool]):
    """Change a project; False when it is not at this version any more.

    `shortens`: its retention is shorter than before, also for stored responses. Raises StorageError with the code
    NAME_TAKEN where another project has taken the name since it was found free.
    """

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project_id: str
    version: int
    values: Mapping[str, Any]
    shortens: bool = False

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        try:
            return [_change(connection, write) for write in writes]
        except DBAPIError as error:
            if error.orig is None or not is_conflict(error.orig):
                raise
            raise StorageError("Another project has this name.", code=NAME_TAKEN) from error


def _change(connection: Connection, write: ChangeProject) -> bool:
    own = (projects.c.id == write.project_id, projects.c.version == write.version, projects.c.erasing_at.is_(None))
    values = _columns(write.values) | {"version": write.version + 1}
    if write.shortens:
        values["shortened_at"] = DatabaseTime()
    return connection.execute(update(projects).where(*own).values(values)).rowcount > 0


def _row(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "retention_days": project.retention_days,
        "created_at": project.created_at,
        "policy": packed(project.policy),
        "version": project.version,
        "conversation_days": project.conversation_days,
    }


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: packed(value) if name == "policy" else value for name, value in values.items()}


def _project(row: Sequence[Any]) -> Project:
    project_id, name, retention_days, created_at, policy, *more = row
    return Project(project_id, name, retention_days, created_at, project_policy(policy), *more)
