"""Facts about the database itself, such as the fingerprint of the secret it was made with: by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import Connection, select, update

from app.storage.tables import insert_if_new, meta
from app.storage.writer import Rank, Write, Writer


class MetaStore:
    """Names and values that every process on this database agrees on."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def write_once(self, name: str, value: str) -> str:
        """Commit the value unless the name has one; return the one that is kept."""
        return await self._writer.submit(WriteOnce(name, value))

    async def replace(self, name: str, old: str, new: str) -> None:
        """Commit the new value, if the name still has the old one."""
        await self._writer.submit(Replace(name, old, new))


@dataclass(frozen=True, slots=True)
class WriteOnce(Write[str]):
    """A name's first value, whoever writes it."""

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
class Replace(Write[None]):
    """Another value for a name."""

    rank: ClassVar[Rank] = Rank.META
    is_apart: ClassVar[bool] = True

    name: str
    old: str
    new: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            own = (meta.c.name == write.name, meta.c.value == write.old)
            connection.execute(update(meta).where(*own).values(value=write.new))
        return [None] * len(writes)
