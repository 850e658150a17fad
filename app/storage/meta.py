"""Store facts about the database itself by name, such as the fingerprint of the master secret that it was made with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import Connection, delete, select, update

from app.storage.engine.database import Database
from app.storage.tables import insert_if_new, meta
from app.storage.writer.writer import Rank, Write, Writer


class MetaStore:
    """Read and write the names and values on which all processes of this database agree."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def get(self, name: str) -> str | None:
        """Return the value of this name, or None."""
        own = select(meta.c.value).where(meta.c.name == name)
        value: str | None = await self._database.read(lambda connection: connection.scalar(own))
        return value

    async def below(self, prefix: str) -> Mapping[str, str]:
        """Return the values of all names with this prefix, by the rest of the name."""
        own = select(meta.c.name, meta.c.value).where(meta.c.name.startswith(prefix, autoescape=True))
        rows = await self._database.read(lambda connection: connection.execute(own).all())
        return {name.removeprefix(prefix): value for name, value in rows}

    async def write_once(self, name: str, value: str) -> str:
        """Commit the value unless the name has one; return the one that is kept."""
        return await self._writer.submit(WriteOnce(name, value))


@dataclass(frozen=True, slots=True)
class WriteOnce(Write[str]):
    """Insert a name's value unless the name has one; the result is the value that is kept."""

    rank: ClassVar[Rank] = Rank.META
    is_apart: ClassVar[bool] = True

    name: str
    value: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[str]:
        kept: list[str] = []
        for write in writes:
            connection.execute(insert_if_new(meta, connection.dialect), {"name": write.name, "value": write.value})
            kept.append(connection.scalar(select(meta.c.value).where(meta.c.name == write.name)) or "")
        return kept


@dataclass(frozen=True, slots=True)
class Replace(Write[bool]):
    """Replace `old` by `new` and delete the names of `ends`; False when the name has another value than `old`."""

    rank: ClassVar[Rank] = Rank.META
    is_apart: ClassVar[bool] = True

    name: str
    old: str
    new: str
    ends: Sequence[str] = ()

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        results = []
        for write in writes:
            own = (meta.c.name == write.name, meta.c.value == write.old)
            results.append(connection.execute(update(meta).where(*own).values(value=write.new)).rowcount > 0)
            if results[-1]:
                connection.execute(delete(meta).where(meta.c.name.in_(sorted(write.ends))))
        return results
