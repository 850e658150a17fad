"""Facts about the database itself, such as the fingerprint of the secret it was made with: written once, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection, select

from app.storage.tables import insert_if_new, meta
from app.storage.writer import Write, Writer


class MetaStore:
    """Names and values that every process on this database agrees on."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def write_once(self, name: str, value: str) -> str:
        """Commit the value unless the name has one; return the one that is kept."""
        return await self._writer.submit(WriteOnce(name, value))


@dataclass(frozen=True, slots=True)
class WriteOnce(Write[str]):
    """A name's first value, whoever writes it."""

    name: str
    value: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[str]:
        kept: list[str] = []
        for write in writes:
            connection.execute(insert_if_new(meta, connection.dialect), {"name": write.name, "value": write.value})
            kept.append(connection.scalar(select(meta.c.value).where(meta.c.name == write.name)) or "")
        return kept
