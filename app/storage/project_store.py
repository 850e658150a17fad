"""Projects: who owns what is kept. Must not know keys or responses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from sqlalchemy import Connection, select

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
        by_name = _READ.order_by(projects.c.name)
        rows = await self._database.read(lambda connection: connection.execute(by_name).all())
        return [Project(*row) for row in rows]

    async def find(self, name: str) -> Project | None:
        """The project of this name."""
        own = _READ.where(projects.c.name == name)
        row = await self._database.read(lambda connection: connection.execute(own).one_or_none())
        return row and Project(*row)


@dataclass(frozen=True, slots=True)
class CreateProject(Write[bool]):
    """A new project. False when its name or id is taken."""

    project: Project

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        statement = insert_if_new(projects, connection.dialect).returning(projects.c.id)
        return [connection.scalar(statement, asdict(write.project)) is not None for write in writes]
