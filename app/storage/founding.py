"""The first start on a database: its first project and keys, by one process of many. Must not know who they are for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from sqlalchemy import Connection

from app.state.records import ApiKey, Project
from app.storage.key_store import CreateKey
from app.storage.project_store import CreateProject
from app.storage.writer import Rank, Write


@dataclass(frozen=True, slots=True)
class Founding(Write[bool]):
    """A project and its keys with their hashes, all of them or none. False when the project's name is taken."""

    rank: ClassVar[Rank] = Rank.PROJECTS
    is_apart: ClassVar[bool] = True

    project: Project
    keys: Sequence[tuple[ApiKey, bytes]] = field(repr=False)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        results = []
        for write in writes:
            results += CreateProject.apply(connection, [CreateProject(write.project)])
            if results[-1]:
                CreateKey.apply(connection, [CreateKey(key, key_hash) for key, key_hash in write.keys])
        return results
