"""Write who owns runs: claimed from those that are gone, renewed, ended. Leases are by the database's clock."""

from dataclasses import dataclass
from typing import ClassVar

import orjson
from sqlalchemy import Connection, RowMapping, and_, select, update

from app.state.runs import Order, Run
from app.storage.clock import DatabaseTime
from app.storage.row_locks import Row, keyed
from app.storage.run_writes import IS_IN_FLIGHT, SingleWrite
from app.storage.statements import unindexed
from app.storage.tables import runs

# Runs without a living owner that are only ended, and that one claim takes over.
_MOST_ENDED = 16


@dataclass(frozen=True, slots=True)
class ClaimRuns(SingleWrite[list[Run]]):
    """Runs without an owner that lives, and from now on with this one."""

    owner: str
    lease_seconds: int
    most: int
    beside: tuple[int, ...]

    def make(self, connection: Connection) -> list[Run]:
        waits = and_(runs.c.status == "queued", ~runs.c.cancel_requested)
        ends = and_(IS_IN_FLIGHT, ~waits)
        keys: list[int] = []
        # Those that only end need no room to run.
        for wanted, most in ((ends, _MOST_ENDED), (waits, self.most)):
            query = (
                select(runs.c.key)
                .where(wanted, runs.c.lease_until <= DatabaseTime(), runs.c.key.not_in(self.beside))
                # Not by the index of the keys, which has all that have ended.
                .order_by(unindexed(runs.c.key))
                .limit(most)
                .with_for_update(skip_locked=True)
            )
            keys += connection.scalars(query)
        if not keys:
            return []
        connection.execute(
            update(runs)
            .where(runs.c.key.in_(keys))
            .values(owner=self.owner, epoch=runs.c.epoch + 1, lease_until=DatabaseTime() + self.lease_seconds)
        )
        query = select(runs, (DatabaseTime() - runs.c.created_at).label("waited")).where(runs.c.key.in_(keys))
        return [_run(row) for row in connection.execute(query.order_by(runs.c.key)).mappings()]


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


def _run(row: RowMapping) -> Run:
    order = Order(
        row["id"],
        row["project_id"],
        row["api_key_id"],
        row["is_stored"],
        row["is_streamed"],
        orjson.loads(row["headers"]),
        row["request"],
        row["is_beta"],
        row["drawn"],
    )
    return Run(row["key"], row["epoch"], order, row["status"], row["body"], row["cancel_requested"], row["waited"])
