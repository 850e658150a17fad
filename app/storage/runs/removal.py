"""Delete runs with their event logs: that of a deleted response, and expired ones."""

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection, delete, select

from app.storage.engine.clock import DatabaseTime
from app.storage.runs.writes import IS_IN_FLIGHT, IS_KEPT, SingleWrite
from app.storage.tables import runs
from app.storage.writer.row_locks import Row, named


@dataclass(frozen=True, slots=True)
class DeleteRun(SingleWrite[bool]):
    """Delete a run that has ended, with its event log; False when there was none."""

    erases: ClassVar[bool] = True

    project_id: str
    response_id: str

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("runs", self.project_id, self.response_id),)

    def make(self, connection: Connection) -> bool:
        own = (runs.c.project_id == self.project_id, runs.c.id == self.response_id, ~IS_IN_FLIGHT, IS_KEPT)
        return connection.execute(delete(runs).where(*own)).rowcount > 0


@dataclass(frozen=True, slots=True)
class PurgeRuns(SingleWrite[int]):
    """Delete up to `batch` expired runs; the result is how many."""

    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True
    erases_later: ClassVar[bool] = True

    batch: int

    def make(self, connection: Connection) -> int:
        old = (
            select(runs.c.key)
            .where(runs.c.expires_at <= DatabaseTime())
            .limit(self.batch)
            .with_for_update(skip_locked=True)
        )
        return connection.execute(delete(runs).where(runs.c.key.in_(old))).rowcount
