"""Share the conditions and recoveries of accounts among processes, and claim probes, by the database's clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, ClassVar, Self, TypeAlias, cast

from sqlalchemy import ColumnElement, Connection, and_, case, delete, not_, or_, select, tuple_, update

from app.state.account_conditions import PROBED, SEVERITY, Condition, ConditionState, Recovery
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database
from app.storage.tables import insert_if_new, meta
from app.storage.upstreams.store import REVISION_NAME
from app.storage.upstreams.tables import conditions
from app.storage.writer.writer import Rank, Write, Writer

AccountModel: TypeAlias = tuple[str, str]
"""An account and one of its models, "" for all."""
Mark: TypeAlias = tuple[int, int]
"""When a row was last changed, and its version: differs after each change."""

_USABLE = "usable"
_COOLING: ConditionState = "cooling"
# A change is committed at most some seconds after its `changed_at`.
_OVERLAP_SECONDS = 15
# By then every process that has the account configured has tried it again.
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
    conditions.c.cooling_until,
    conditions.c.cooling_rest,
    conditions.c.cooling_reason,
)
_IS_PROBED = conditions.c.state.in_(sorted(PROBED))
_IS_COOLING = conditions.c.cooling_until > DatabaseTime()
_IS_DUE = and_(_IS_PROBED, conditions.c.until <= DatabaseTime(), not_(_IS_COOLING))
_SEVERITY = case(dict(SEVERITY), value=conditions.c.state, else_=0)
_NOW = select(DatabaseTime(), select(meta.c.value).where(meta.c.name == REVISION_NAME).scalar_subquery())


@dataclass(frozen=True, slots=True)
class SeenCondition:
    """Report a row as it was read: the condition or recovery of an account's model, and a cooling beside it.

    The condition is the worst that any process has reported and none has found to be over.
    """

    place: AccountModel
    changes: tuple[Condition | Recovery, ...]
    mark: Mark
    due_for: float | None
    """For how many seconds a probe has been due; None where none is."""


@dataclass(frozen=True, slots=True)
class SeenConditions:
    """Report the rows found at the database's time `now`, and the revision of the stored upstreams."""

    now: int
    revision: str | None
    seen: Sequence[SeenCondition]


class ConditionStore:
    """Store the conditions of all accounts, for all processes on this database."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def look(self, since: int | None) -> SeenConditions:
        """Return the rows that changed since a look at that time, some of them again, and those due for a probe.

        None: every row that is not usable.
        """

        def read(connection: Connection) -> SeenConditions:
            now, revision = connection.execute(_NOW).one()
            changed = (
                conditions.c.state != _USABLE if since is None else conditions.c.changed_at >= since - _OVERLAP_SECONDS
            )
            rows = connection.execute(_SEEN.where(or_(changed, _IS_DUE))).all()
            return SeenConditions(now, revision, [_seen_condition(row, now) for row in rows])

        return await self._database.read(read)

    async def keep(self, changes: Sequence[Condition | Recovery]) -> Mapping[AccountModel, Mark]:
        """Commit this process's findings; a worse condition of another process stays, and so does a longer cooldown.

        Returns the marks of the rows that say nothing else now.
        """
        return await self._writer.submit(KeepChanges(changes))

    async def claim(self, due: Sequence[SeenCondition], seconds: int) -> Sequence[SeenCondition]:
        """Claim probes and return the rows that this process alone may probe in the next `seconds`."""
        return await self._writer.submit(ClaimProbes(due, seconds))

    async def forget(self) -> None:
        """Remove the rows that were over long ago."""
        await self._writer.submit(Forget())


@dataclass(frozen=True, slots=True)
class KeepChanges(Write[Mapping[AccountModel, Mark]]):
    """Merge conditions and recoveries, the latest of each account and model, into the table."""

    rank: ClassVar[Rank] = Rank.CONDITIONS
    is_apart: ClassVar[bool] = True

    changes: Sequence[Condition | Recovery]

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Mapping[AccountModel, Mark]]:
        return [_keep_all(connection, write.changes) for write in writes]


@dataclass(frozen=True, slots=True)
class ClaimProbes(Write[Sequence[SeenCondition]]):
    """Claim the right to probe: extend the cooldown of each row for all processes but this one."""

    rank: ClassVar[Rank] = Rank.CONDITIONS
    is_apart: ClassVar[bool] = True

    due: Sequence[SeenCondition]
    seconds: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Sequence[SeenCondition]]:
        return [_claim(connection, write) for write in writes]


@dataclass(frozen=True, slots=True)
class Forget(Write[None]):
    """Delete the rows that were over long ago."""

    rank: ClassVar[Rank] = Rank.CONDITIONS
    is_apart: ClassVar[bool] = True

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        old = DatabaseTime() - _FORGOTTEN_SECONDS
        key = (conditions.c.account, conditions.c.model)
        over = select(*key).where(conditions.c.until < old, conditions.c.changed_at < old)
        connection.execute(delete(conditions).where(tuple_(*key).in_(over.with_for_update(skip_locked=True))))
        return [None] * len(writes)


def _keep_all(connection: Connection, changes: Sequence[Condition | Recovery]) -> Mapping[AccountModel, Mark]:
    marks: dict[AccountModel, Mark | None] = {}
    # In one order in every process, to avoid deadlocks.
    for change in sorted(changes, key=_place):
        mark = _recover(connection, change) if isinstance(change, Recovery) else _keep(connection, change)
        place = _place(change)
        marks[place] = None if marks.get(place, mark) is None else mark
    return {place: mark for place, mark in marks.items() if mark is not None}


def _keep(connection: Connection, change: Condition) -> Mark | None:
    blank = {"account": change.account, "model": change.model, "state": _USABLE, "step": 0, "reason": ""}
    zeros = {"until": 0, "rest": 0, "changed_at": 0, "version": 0}
    connection.execute(insert_if_new(conditions, connection.dialect), {**blank, **zeros})
    # The clock has whole seconds, rounded down; add one, so that the cooldown never ends early.
    rest = ceil(max(change.rest, 0.0)) + 1
    if change.state == _COOLING:
        return _cool(connection, change, rest)
    now = DatabaseTime()
    is_same = conditions.c.state == change.state
    goes_on = and_(is_same, conditions.c.until > now + rest)
    values = {
        "state": change.state,
        "reason": change.reason,
        "step": case((and_(is_same, conditions.c.step > change.step), conditions.c.step), else_=change.step),
        "until": case((goes_on, conditions.c.until), else_=now + rest),
        "rest": case((goes_on, conditions.c.rest), else_=rest),
    }
    if not change.is_of_probe:
        is_worse = SEVERITY.get(change.state, 0) < _SEVERITY
        values = {name: case((is_worse, conditions.c[name]), else_=value) for name, value in values.items()}
    row = _changed(connection, change, values)
    return _mark(row) if (row.state, row.rest) == (change.state, rest) and not row.is_cooling else None


def _cool(connection: Connection, change: Condition, rest: int) -> Mark | None:
    until = DatabaseTime() + rest
    goes_on = conditions.c.cooling_until > until
    cooling = {
        "until": case((goes_on, conditions.c.cooling_until), else_=until),
        "rest": case((goes_on, conditions.c.cooling_rest), else_=rest),
        "reason": case((goes_on, conditions.c.cooling_reason), else_=change.reason),
    }
    # Without a worse condition cooling is the state, also for processes of a release that knows one state only.
    shown = {"state": _COOLING, "step": 0, **cooling}
    values = {name: case((_IS_PROBED, conditions.c[name]), else_=value) for name, value in shown.items()}
    row = _changed(connection, change, {**values, **{f"cooling_{name}": value for name, value in cooling.items()}})
    return _mark(row) if (row.state, row.rest) == (_COOLING, rest) else None


def _recover(connection: Connection, change: Recovery) -> Mark | None:
    over = {"state": _USABLE, "step": 0, "reason": "", "until": DatabaseTime(), "rest": 0}
    beneath = {"state": _COOLING, **{name: conditions.c[f"cooling_{name}"] for name in ("until", "rest", "reason")}}
    values = {
        name: case((_IS_COOLING, beneath[name]), else_=value) if name in beneath else value
        for name, value in over.items()
    }
    row = _changed(
        connection,
        change,
        values,
        conditions.c.state.not_in((_USABLE, _COOLING)),
        SEVERITY[change.state] >= _SEVERITY,
    )
    return None if row is None or row.is_cooling else _mark(row)


def _changed(
    connection: Connection, change: Condition | Recovery, values: Mapping[str, Any], *where: ColumnElement[bool]
) -> Any:
    return connection.execute(
        update(conditions)
        .where(*_row_of(change), *where)
        .values(**values, changed_at=DatabaseTime(), version=conditions.c.version + 1)
        .returning(
            conditions.c.state,
            conditions.c.rest,
            conditions.c.changed_at,
            conditions.c.version,
            _IS_COOLING.label("is_cooling"),
        )
    ).one_or_none()


def _claim(connection: Connection, write: ClaimProbes) -> list[SeenCondition]:
    claimed: list[SeenCondition] = []
    for seen in sorted(write.due, key=lambda seen: seen.place):
        changed_at, version = seen.mark
        is_as_seen = (conditions.c.changed_at == changed_at, conditions.c.version == version)
        until = DatabaseTime() + write.seconds
        row = connection.execute(
            update(conditions)
            .where(*_row_at(seen.place), *is_as_seen, _IS_DUE)
            .values(until=until, rest=write.seconds, changed_at=DatabaseTime(), version=version + 1)
            .returning(conditions.c.changed_at, conditions.c.version)
        ).one_or_none()
        if row is not None:
            claimed.append(replace(seen, mark=_mark(row), due_for=None))
    return claimed


def _row_of(change: Condition | Recovery) -> tuple[Any, ...]:
    return _row_at(_place(change))


def _row_at(place: AccountModel) -> tuple[Any, ...]:
    return conditions.c.account == place[0], conditions.c.model == place[1]


def _place(change: Condition | Recovery) -> AccountModel:
    return change.account, change.model


def _mark(row: Any) -> Mark:
    return row.changed_at, row.version


def _seen_condition(row: Any, now: int) -> SeenCondition:
    place = (row.account, row.model)
    rest, cooling_rest = _rest(row.until, row.rest, now), _rest(row.cooling_until, row.cooling_rest, now)
    state = None if row.state == _USABLE else cast("ConditionState", row.state)
    cooling, reason = (rest, row.reason) if state == _COOLING else (cooling_rest, row.cooling_reason)
    changes: list[Condition | Recovery] = [Recovery(*place)]
    if state is not None and state != _COOLING:
        changes = [Condition(*place, state, rest, row.step, row.reason)]
    if cooling or state == _COOLING:
        changes.append(Condition(*place, _COOLING, cooling, 0, reason))
    is_due = row.state in PROBED and not rest and not cooling_rest
    due_for = float(now - max(row.until, row.cooling_until)) if is_due else None
    return SeenCondition(place, tuple(changes), _mark(row), due_for)


def _rest(until: int, rest: int, now: int) -> float:
    # A clock that was set back makes no cooldown longer than it was meant to be.
    return float(min(max(until - now, 0), rest))
