"""Write the audit log: commit each administrator's change together with its record, or neither."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Generic, Self, TypeVar

from sqlalchemy import Connection, insert, or_, select

from app.errors import StorageError
from app.state.audit import AuditRecord
from app.storage.engine.database import Database
from app.storage.tables import api_keys, audit
from app.storage.writer.writer import Rank, Write, Writer

T = TypeVar("T")

ACTOR_CHANGED = "actor_changed"
"""The code of the StorageError for an administrator's key that was changed or has ended since it was read."""

_READ = select(audit.c.id, audit.c.at, audit.c.actor, audit.c.address, audit.c.action, audit.c.subject, audit.c.details)


@dataclass(frozen=True, slots=True)
class ActingKey:
    """Name the API key that makes a change, and the version at which it was read."""

    id: str
    version: int


class AuditStore:
    """Commit changes with their audit records, and list the records, latest first. No record is changed or deleted."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def submit(self, change: Write[T], record: AuditRecord, acting: ActingKey | None = None) -> T:
        """Commit the change and its record, or neither. Returns the change's result; raises as the writer does.

        With an acting key that is not at its version any more, or has ended, StorageError with the code ACTOR_CHANGED.
        """
        return await self._writer.submit(Audited(change, record, acting))

    async def list(self, *, after: str | None, limit: int, subject: str | None) -> Sequence[AuditRecord]:
        """List the records of the subject, or of all, that are older than the record `after`."""
        page = _READ.order_by(audit.c.key.desc()).limit(limit)
        if subject is not None:
            page = page.where(audit.c.subject == subject)
        if after is not None:
            page = page.where(audit.c.key < select(audit.c.key).where(audit.c.id == after).scalar_subquery())
        rows = await self._database.read(lambda connection: connection.execute(page).all())
        return [AuditRecord(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Audited(Write[T], Generic[T]):
    """Make a change and insert its record. A result of None or False says that nothing changed: no record then.

    Invariant: a key makes no change once its own end is committed, wherever and however lately it was read.
    """

    rank: ClassVar[Rank] = Rank.META
    is_apart: ClassVar[bool] = True

    change: Write[T]
    record: AuditRecord
    acting: ActingKey | None = None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[T]:
        results: list[T] = []
        for write in writes:
            _check_acts(connection, write.acting, write.record.at)
            results += write.change.apply(connection, [write.change])
            if results[-1] is not None and results[-1] is not False:
                connection.execute(insert(audit), asdict(write.record))
        return results


def _check_acts(connection: Connection, acting: ActingKey | None, now: int) -> None:
    if acting is None:
        return
    is_alive = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now)
    as_read = select(api_keys.c.id).where(api_keys.c.id == acting.id, api_keys.c.version == acting.version, is_alive)
    # Locked to the end of the transaction: whoever ends the key meanwhile finds what the key made.
    if connection.scalar(as_read.with_for_update(read=True)) is None:
        raise StorageError("The key that administers was changed meanwhile.", code=ACTOR_CHANGED)
