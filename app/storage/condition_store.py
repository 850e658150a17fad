"""What processes tell each other of accounts' health, by the database's clock. Must not know what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Self, TypeAlias, cast

from sqlalchemy import Connection, and_, case, delete, or_, select, tuple_, update

from app.state.health import PROBED, Ailment, Condition, Recovery
from app.storage.clock import DatabaseTime
from app.storage.database import Database
from app.storage.tables import insert_if_new, meta
from app.storage.upstream_store import REVISION_NAME
from app.storage.upstream_tables import conditions
from app.storage.writer import Rank, Write, Writer

Place: TypeAlias = tuple[str, str]
"""An account and a model of it, "" for all."""
Mark: TypeAlias = tuple[int, int]
"""Differs after each change of a row: when it was, and which."""

_USABLE = "usable"
# A change is committed some seconds after the time that it says of itself, at most.
_OVERLAP_SECONDS = 15
# By then whoever has the account configured has tried it again.
_FORGOTTEN_SECONDS = 7 * 86_400

_SEEN = select(
    conditions.c.account,
    conditions.c.model,
    conditions.c.state,
    conditions.c.until,
    conditions.c.rest,
    conditions.c.step,
    conditions.c.reason,
    conditions.c.changed_at,
    conditions.c.version,
)
_IS_DUE = and_(conditions.c.state.in_(sorted(PROBED)), conditions.c.until <= DatabaseTime())
_NOW = select(DatabaseTime(), select(meta.c.value).where(meta.c.name == REVISION_NAME).scalar_subquery())


@dataclass(frozen=True, slots=True)
class Sighting:
    """A row as it stood when it was read."""

    change: Condition | Recovery
    mark: Mark
    is_due: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the table found, at the database's time `now`, and the revision of the stored upstreams."""

    now: int
    revision: str | None
    sightings: Sequence[Sighting]


class ConditionStore:
    """The conditions of all accounts, of all processes on this database."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def look(self, since: int | None) -> Look:
        """What changed since the look at that time, some of it for the second time, and what is due for a probe.

        None: everything that is not over.
        """

        def read(connection: Connection) -> Look:
            now, revision = connection.execute(_NOW).one()
            changed = (
                conditions.c.state != _USABLE if since is None else conditions.c.changed_at >= since - _OVERLAP_SECONDS
            )
            rows = connection.execute(_SEEN.where(or_(changed, _IS_DUE))).all()
            return Look(now, revision, [_sighting(row, now) for row in rows])

        return await self._database.read(read)

    async def keep(self, changes: Sequence[Condition | Recovery]) -> Mapping[Place, Mark]:
        """Commit what this process found out. A rest that another one knows to be longer stays as long.

        Returns the marks of the rows that say nothing else now.
        """
        return await self._writer.submit(KeepChanges(changes))

    async def claim(self, due: Sequence[Sighting], seconds: int) -> Sequence[Sighting]:
        """Of these, as they stand now, those that this process may probe in the next `seconds`: no other may."""
        return await self._writer.submit(ClaimProbes(due, seconds))

    async def forget(self) -> None:
        """Remove what was over long ago."""
        await self._writer.submit(Forget())


@dataclass(frozen=True, slots=True)
class KeepChanges(Write[Mapping[Place, Mark]]):
    """Conditions and recoveries, the latest of each account and model."""

    rank: ClassVar[Rank] = Rank.CONDITIONS
    is_apart: ClassVar[bool] = True

    changes: Sequence[Condition | Recovery]

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Mapping[Place, Mark]]:
        return [_keep_all(connection, write.changes) for write in writes]


@dataclass(frozen=True, slots=True)
class ClaimProbes(Write[Sequence[Sighting]]):
    """The right to probe: the rest of each goes on for so long, for all processes but the one that gets it."""

    rank: ClassVar[Rank] = Rank.CONDITIONS
    is_apart: ClassVar[bool] = True

    due: Sequence[Sighting]
    seconds: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Sequence[Sighting]]:
        return [_claim(connection, write) for write in writes]


@dataclass(frozen=True, slots=True)
class Forget(Write[None]):
    """The end of rows that say nothing any more."""

    rank: ClassVar[Rank] = Rank.CONDITIONS
    is_apart: ClassVar[bool] = True

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        old = DatabaseTime() - _FORGOTTEN_SECONDS
        key = (conditions.c.account, conditions.c.model)
        over = select(*key).where(conditions.c.until < old, conditions.c.changed_at < old)
        connection.execute(delete(conditions).where(tuple_(*key).in_(over.with_for_update(skip_locked=True))))
        return [None] * len(writes)


def _keep_all(connection: Connection, changes: Sequence[Condition | Recovery]) -> Mapping[Place, Mark]:
    marks: dict[Place, Mark] = {}
    # In one order in every process: two that wait for each other's rows would both be rolled back.
    for change in sorted(changes, key=_place):
        mark = _keep(connection, change) if isinstance(change, Condition) else _recover(connection, change)
        if mark is not None:
            marks[_place(change)] = mark
    return marks


def _keep(connection: Connection, change: Condition) -> Mark | None:
    where = _row_of(change)
    blank = {"account": change.account, "model": change.model, "state": _USABLE, "step": 0, "reason": ""}
    zeros = {"until": 0, "rest": 0, "changed_at": 0, "version": 0}
    connection.execute(insert_if_new(conditions, connection.dialect), {**blank, **zeros})
    # The clock tells whole seconds that have passed; one more, so that the rest never ends early.
    rest = ceil(max(change.rest, 0.0)) + 1
    until = DatabaseTime() + rest
    is_same = conditions.c.state == change.state
    goes_on = and_(is_same, conditions.c.until > until)
    row = connection.execute(
        update(conditions)
        .where(*where)
        .values(
            state=change.state,
            reason=change.reason,
            step=case((and_(is_same, conditions.c.step > change.step), conditions.c.step), else_=change.step),
            until=case((goes_on, conditions.c.until), else_=until),
            rest=case((goes_on, conditions.c.rest), else_=rest),
            changed_at=DatabaseTime(),
            version=conditions.c.version + 1,
        )
        .returning(conditions.c.changed_at, conditions.c.version, conditions.c.rest)
    ).one()
    return (row.changed_at, row.version) if row.rest == rest else None


def _recover(connection: Connection, change: Recovery) -> Mark | None:
    now = DatabaseTime()
    values = {"state": _USABLE, "step": 0, "reason": "", "until": now, "rest": 0, "changed_at": now}
    row = connection.execute(
        update(conditions)
        .where(*_row_of(change), conditions.c.state != _USABLE)
        .values(**values, version=conditions.c.version + 1)
        .returning(conditions.c.changed_at, conditions.c.version)
    ).one_or_none()
    return row and (row.changed_at, row.version)


def _claim(connection: Connection, write: ClaimProbes) -> list[Sighting]:
    claimed: list[Sighting] = []
    for sighting in sorted(write.due, key=lambda sighting: _place(sighting.change)):
        changed_at, version = sighting.mark
        is_as_seen = (conditions.c.changed_at == changed_at, conditions.c.version == version)
        until = DatabaseTime() + write.seconds
        row = connection.execute(
            update(conditions)
            .where(*_row_of(sighting.change), *is_as_seen, _IS_DUE)
            .values(until=until, rest=write.seconds, changed_at=DatabaseTime(), version=version + 1)
            .returning(conditions.c.changed_at, conditions.c.version)
        ).one_or_none()
        if row is not None:
            claimed.append(Sighting(sighting.change, (row.changed_at, row.version), is_due=False))
    return claimed


def _row_of(change: Condition | Recovery) -> tuple[Any, ...]:
    return conditions.c.account == change.account, conditions.c.model == change.model


def _place(change: Condition | Recovery) -> Place:
    return change.account, change.model


def _sighting(row: Any, now: int) -> Sighting:
    mark = (row.changed_at, row.version)
    if row.state == _USABLE:
        return Sighting(Recovery(row.account, row.model), mark, is_due=False)
    state = cast("Ailment", row.state)
    # A clock that was put back makes no rest longer than it was meant to be.
    rest = float(min(max(row.until - now, 0), row.rest))
    condition = Condition(row.account, row.model, state, rest, row.step, row.reason)
    return Sighting(condition, mark, is_due=state in PROBED and rest == 0)
