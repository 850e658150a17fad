"""Write who owns runs: claimed from those that are gone, renewed, ended. Leases are by the database's clock."""

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection, select, update

from app.storage.clock import DatabaseTime
from app.storage.row_locks import Row, keyed
from app.storage.run_writes import IS_IN_FLIGHT, SingleWrite
from app.storage.tables import runs


@dataclass(frozen=True, slots=True)
class ClaimRuns(SingleWrite[list[int]]):
    """Those of these runs that have no owner that lives, and from now on this one."""

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
    """The leases of these runs, from now on."""

    is_apart: ClassVar[bool] = True

    owner: str
    keys: tuple[int, ...]
    lease_seconds: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """The runs."""
        return tuple([keyed("runs", key) for key in self.keys])

    def make(self, connection: Connection) -> None:
        connection.execute(
            update(runs)
            .where(runs.c.key.in_(self.keys), runs.c.owner == self.owner, IS_IN_FLIGHT)
            .values(lease_until=DatabaseTime() + self.lease_seconds)
        )


@dataclass(frozen=True, slots=True)
class EndOtherLeases(SingleWrite[None]):
    """The end of every lease but this owner's, by a process that is alone with its database."""

    is_apart: ClassVar[bool] = True

    owner: str

    def make(self, connection: Connection) -> None:
        others = (IS_IN_FLIGHT, runs.c.owner.is_not(None), runs.c.owner != self.owner)
        connection.execute(update(runs).where(*others).values(lease_until=DatabaseTime()))
