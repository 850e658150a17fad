"""Projects: who owns what is kept. Must not know keys or responses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import ConfigurationError
from app.state.records import Project
from app.storage.database import Database
from app.storage.tables import insert_if_new, projects
from app.storage.writer import Write, Writer

_READ = select(projects.c.id, projects.c.name, projects.c.retention_days, projects.c.created_at)


class ProjectStore:
    """The projects, found by their unique names."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(self, project: Project) -> None:
        """Commit a new project; a name (or id) that is taken is a ConfigurationError."""
        if not await self._writer.submit(CreateProject(project)):
            raise ConfigurationError(f"There is already a project named {project.name!r}.")

    async def list(self) -> Sequence[Project]:
        """Every project, by name."""
        async with self._database.reading() as connection:
            result = await connection.execute(_READ.order_by(projects.c.name))
            return [Project(*row) for row in result]

    async def find(self, name: str) -> Project | None:
        """The project of this name."""
        async with self._database.reading() as connection:
            row = (await connection.execute(_READ.where(projects.c.name == name))).one_or_none()
        return row and Project(*row)


@dataclass(frozen=True, slots=True)
class CreateProject(Write[bool]):
    """A new project. False when its name or id is taken."""

    project: Project

    @classmethod
    async def apply(cls, connection: AsyncConnection, writes: Sequence[Self]) -> list[bool]:
        statement = insert_if_new(projects, connection.dialect).returning(projects.c.id)
        return [await connection.scalar(statement, asdict(write.project)) is not None for write in writes]
