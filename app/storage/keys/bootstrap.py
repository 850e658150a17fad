"""Create the default project and the first keys at the first start on a database, by one process of many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from sqlalchemy import Connection, select

from app.errors import StorageError
from app.state.records import ApiKey, Project
from app.storage.keys.store import CreateKey
from app.storage.projects.store import CreateProject
from app.storage.tables import insert_if_new, meta, projects
from app.storage.writer.writer import Rank, Write

FOUNDED_NAME = "founded"
"""The name that `meta` has once the first keys were made. Keys that commands made before do not set it."""


@dataclass(frozen=True, slots=True)
class CreateFirstKeys(Write[bool]):
    """Insert the first keys and their project unless it exists; False when first keys were made before.

    Without keys it inserts the project alone: a later process may make the keys.
    """

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project: Project
    keys: Sequence[tuple[ApiKey, bytes]] = field(repr=False)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        results = []
        for write in writes:
            if write.keys:
                is_first = insert_if_new(meta, connection.dialect).returning(meta.c.name)
                if connection.scalar(is_first, {"name": FOUNDED_NAME, "value": write.project.id}) is None:
                    results.append(False)
                    continue
            (is_new,) = CreateProject.apply(connection, [CreateProject(write.project)])
            own = select(projects.c.id).where(projects.c.id == write.project.id)
            if not is_new and connection.scalar(own) is None:
                # Another process has just taken the name: the next try finds that project.
                raise StorageError("The default project is being made by another process.")
            if write.keys:
                CreateKey.apply(connection, [CreateKey(key, key_hash) for key, key_hash in write.keys])
            results.append(is_new or bool(write.keys))
        return results
