"""The first start on a database: its default project and its first keys, by one process of many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from sqlalchemy import Connection, select

from app.errors import StorageError
from app.state.records import ApiKey, Project
from app.storage.key_store import CreateKey
from app.storage.project_store import CreateProject
from app.storage.tables import insert_if_new, meta, projects
from app.storage.writer import Rank, Write

FOUNDED_NAME = "founded"
"""The name that `meta` has once first keys were made: commands, in whatever order, make none needless."""


@dataclass(frozen=True, slots=True)
class Founding(Write[bool]):
    """The first keys with their hashes, and their project unless it is there. False when there were first keys before.

    Without keys the project alone: whoever comes later may make them.
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
                # Somebody gave its name to another this very moment: the next try finds that.
                raise StorageError("The default project is being made by another process.")
            if write.keys:
                CreateKey.apply(connection, [CreateKey(key, key_hash) for key, key_hash in write.keys])
            results.append(is_new or bool(write.keys))
        return results
