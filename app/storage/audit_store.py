"""The audit log: a row for each administrator's change, written with it. Must not know what is changed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Generic, Self, TypeVar

from sqlalchemy import Connection, insert, select

from app.state.audit import AuditRecord
from app.storage.database import Database
from app.storage.tables import audit
from app.storage.writer import Rank, Write, Writer

T = TypeVar("T")

_READ = select(audit.c.id, audit.c.at, audit.c.actor, audit.c.address, audit.c.action, audit.c.subject, audit.c.details)


class AuditStore:
    """What was done, the latest first. Nothing here changes or deletes a row."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def submit(self, change: Write[T], record: AuditRecord) -> T:
        """Commit the change and its record, or neither. Returns the change's result; raises as the writer does."""
        return await self._writer.submit(Audited(change, record))

    async def list(self, *, after: str | None, limit: int, subject: str | None) -> Sequence[AuditRecord]:
        """Records of the subject or of all, older than the record `after`."""
        page = _READ.order_by(audit.c.key.desc()).limit(limit)
        if subject is not None:
            page = page.where(audit.c.subject == subject)
        if after is not None:
            page = page.where(audit.c.key < select(audit.c.key).where(audit.c.id == after).scalar_subquery())
        rows = await self._database.read(lambda connection: connection.execute(page).all())
        return [AuditRecord(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Audited(Write[T], Generic[T]):
    """A change with its record. A change whose result is None or False has changed nothing, and is not recorded."""

    rank: ClassVar[Rank] = Rank.META
    is_apart: ClassVar[bool] = True

    change: Write[T]
    record: AuditRecord

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[T]:
        results: list[T] = []
        for write in writes:
            results += write.change.apply(connection, [write.change])
            if results[-1] is not None and results[-1] is not False:
                connection.execute(insert(audit), asdict(write.record))
        return results
