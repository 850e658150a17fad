"""Claim, renew and end the leases of runs. Leases go by the database's clock."""

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection, select, update

from app.storage.engine.clock import DatabaseTime
from app.storage.runs.writes import IS_IN_FLIGHT, SingleWrite
from app.storage.tables import runs
from app.storage.writer.row_locks import Row, keyed


@dataclass(frozen=True, slots=True)
class ClaimRuns(SingleWrite[list[int]]):
    """Make this owner that of the runs without a living owner; the result is their keys."""

    owner: str
    lease_seconds: int
    keys: tuple[int, ...]

    def make(self, connection: Connection) -> list[int]:
        free = (
            select(runs.c.key)
            .where(runs.c.key.in_(self.keys), IS_IN_FLIGHT, runs.c.lease_until <= DatabaseTime())
            .order_by(runs.c.key)
            .with_for_update(skip_locked=True)
        )
        keys = list(connection.scalars(free))
        if keys:
            connection.execute(
                update(runs)
                .where(runs.c.key.in_(keys))
                .values(owner=self.owner, epoch=runs.c.epoch + 1, lease_until=DatabaseTime() + self.lease_seconds)
            )
        return keys


@dataclass(frozen=True, slots=True)
class RenewLeases(SingleWrite[None]):
    """Renew the leases of these runs, where the owner still has them."""

    is_apart: ClassVar[bool] = True

    owner: str
    keys: tuple[int, ...]
    lease_seconds: int

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple([keyed("runs", key) for key in self.keys])

    def make(self, connection: Connection) -> None:
        connection.execute(
            update(runs)
            .where(runs.c.key.in_(self.keys), runs.c.owner == self.owner, IS_IN_FLIGHT)
            .values(lease_until=DatabaseTime() + self.lease_seconds)
        )


@dataclass(frozen=True, slots=True)
class EndOtherLeases(SingleWrite[None]):
    """End every lease but this owner's, for a process that is alone with its database."""

    is_apart: ClassVar[bool] = True

    owner: str

    def make(self, connection: Connection) -> None:
        others = (IS_IN_FLIGHT, runs.c.owner.is_not(None), runs.c.owner != self.owner)
        connection.execute(update(runs).where(*others).values(lease_until=DatabaseTime()))
