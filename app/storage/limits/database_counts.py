"""Count limits in the database: shared by all replicas, and kept over a restart.

All waiting claims and corrections are one transaction, which locks its counts in one order, so that it is exact.
Streams are leases by the database's clock: those of a killed process end because they are not renewed.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

from sqlalchemy import Connection, bindparam, delete, func, insert, select, tuple_, update

from app.errors import StorageError
from app.state.limit_windows import (
    Claim,
    Correction,
    Count,
    Key,
    Limit,
    Standing,
    Verdict,
    correct,
    current,
    grant,
    standing,
)
from app.storage.engine.clock import DatabaseMilliseconds
from app.storage.engine.database import Database
from app.storage.limits.expiry import PurgeLimits
from app.storage.limits.tables import limit_counts, limit_streams
from app.storage.writer.row_locks import Row
from app.storage.writer.writer import Rank, Write, Writer

_AT_ONCE = 500
# Seconds that a call waits for its reconciliation; and how many are kept while the database is away, the newest ones.
_PATIENCE_SECONDS = 5.0
_MOST_OWED = 100_000

_NOW = select(DatabaseMilliseconds())
_COLUMNS = (limit_counts.c.owner, limit_counts.c.name)
_ROW = (*_COLUMNS, limit_counts.c.used, limit_counts.c.began_at, limit_counts.c.ends_at)
_COUNTS = select(*_ROW).where(tuple_(*_COLUMNS).in_(bindparam("keys", expanding=True)))
_STREAMS = (
    select(limit_streams.c.owner, func.count())
    .where(
        limit_streams.c.owner.in_(bindparam("owners", expanding=True)), limit_streams.c.held_until > bindparam("now")
    )
    .group_by(limit_streams.c.owner)
)
_LOCK = (
    "INSERT INTO limit_counts (owner, name, used, began_at, ends_at) VALUES {rows}"
    " ON CONFLICT (owner, name) DO UPDATE SET used = limit_counts.used"
    " RETURNING owner, name, used, began_at, ends_at"
)
_MARKS = {"qmark": "(?, ?, 0, 0, 0)", "pyformat": "(%s, %s, 0, 0, 0)"}
_KEEP = (
    update(limit_counts)
    .where(limit_counts.c.owner == bindparam("of"), limit_counts.c.name == bindparam("named"))
    .values(used=bindparam("now_used"), began_at=bindparam("begins"), ends_at=bindparam("ends"))
)
# Skip a locked stream: it is ending.
_living = (
    select(limit_streams.c.id)
    .where(limit_streams.c.id.in_(bindparam("ids", expanding=True)))
    .with_for_update(skip_locked=True)
)
_RENEW = (
    update(limit_streams)
    .where(limit_streams.c.id.in_(_living))
    .values(held_until=DatabaseMilliseconds() + bindparam("lease"))
)
_END = delete(limit_streams).where(limit_streams.c.id.in_(bindparam("ids", expanding=True)))


class DatabaseCounts:
    """Count all limits and streams. `lease_seconds` is how long a stream outlives its process."""

    def __init__(self, database: Database, writer: Writer, lease_seconds: float = 25.0) -> None:
        self._database = database
        self._writer = writer
        self._lease_ms = int(lease_seconds * 1000)
        self._held: set[str] = set()
        # Reconciliations that failed and are still to be made.
        self._owed: deque[DrawLimits] = deque(maxlen=_MOST_OWED)

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        """Grant all of these claims or none; `stream` is the id of the call's stream.

        Raises StorageError. Then nothing is granted: what is drawn too late is given back.
        """
        verdict = await self._writer.submit(DrawLimits(tuple(claims), begins=stream, lease_ms=self._lease_ms))
        if verdict.refused is None and any(claim.limit.unit == "streams" for claim in claims):
            self._held.add(stream)
        return verdict

    async def reconcile(self, corrections: Sequence[Correction], stream: str) -> None:
        """Correct what was drawn, and end this stream.

        Raises StorageError where that is not possible in time; then it is done later.
        """
        self._held.discard(stream)
        counted = tuple([correction for correction in corrections if correction.limit.unit != "streams"])
        ends = stream if len(counted) < len(corrections) else None
        outcome = self._reconcile(DrawLimits(corrections=counted, ends=ends))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                # A caller that stops waiting does not cancel it.
                await asyncio.shield(outcome)
        except TimeoutError:
            raise StorageError("The database could not count this in time.") from None

    async def reconcile_owed(self) -> None:
        """Retry the reconciliations that failed. Raises StorageError when the writer takes none now."""
        outcomes = [self._reconcile(self._owed.popleft()) for _ in range(len(self._owed))]
        if outcomes:
            await asyncio.wait(outcomes)

    def _reconcile(self, draw: "DrawLimits") -> asyncio.Future[Verdict]:
        """Return the outcome of a reconciliation, however late; a failed one is owed, and none is made twice."""

        def heard(outcome: asyncio.Future[Verdict]) -> None:
            if outcome.cancelled() or outcome.exception() is not None:
                self._owed.append(draw)

        try:
            outcome = self._writer.hand_in(draw)
        except StorageError:
            self._owed.append(draw)
            raise
        outcome.add_done_callback(heard)
        return outcome

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """Return how these limits stand. Raises StorageError."""
        keys = sorted({limit.key for limit in limits})

        def look(connection: Connection) -> list[Standing]:
            now = _now(connection)
            kept = _counts(connection.execute(_COUNTS, {"keys": keys}))
            counts = kept | _streams(connection, limits, now)
            return [standing(limit, current(counts.get(limit.key), limit, now), now) for limit in limits]

        return await self._database.read(look)

    @property
    def renew_seconds(self) -> float:
        """Return the seconds between two renewals of this process's streams: a third of the lease."""
        return self._lease_ms / 3000

    async def renew(self) -> None:
        """Renew the leases of this process's streams. Raises StorageError."""
        if self._held:
            await self._writer.submit(RenewStreams(tuple(self._held), self._lease_ms))

    async def purge_expired(self, grace_seconds: int = 3600) -> int:
        """Remove the counts and streams that ended more than `grace_seconds` ago; return how many."""
        return await self._writer.submit(PurgeLimits(grace_seconds * 1000))


@dataclass(frozen=True, slots=True)
class DrawLimits(Write[Verdict]):
    """Grant claims, or correct what was drawn, each for all limits of a call at once.

    Claims and corrections are one kind of write, so that a transaction takes all of its locks in one order.
    """

    rank: ClassVar[Rank] = Rank.LIMITS

    claims: tuple[Claim, ...] = ()
    corrections: tuple[Correction, ...] = ()
    begins: str = ""
    ends: str | None = None
    lease_ms: int = 0

    @property
    def parts(self) -> Sequence[Claim | Correction]:
        """Return the claims and corrections, each of which needs its count."""
        return [*self.claims, *self.corrections]

    @property
    def rows(self) -> tuple[Row, ...]:
        keys = {one.limit.key: None for one in self.parts}
        return tuple([Row("limit_counts", ("owner", "name"), tuple(key)) for key in keys])

    def undo(self, result: Verdict) -> "DrawLimits | None":
        if not self.claims or result.refused is not None:
            return None
        drawn = zip(self.claims, result.standings, strict=True)
        counted = [one for one in drawn if one[0].limit.unit != "streams"]
        given_back = [Correction(claim.limit, -claim.amount, standing.began_at) for claim, standing in counted]
        return DrawLimits(corrections=tuple(given_back), ends=self.begins)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Verdict]:
        limits = {one.limit.key: one.limit for write in writes for one in write.parts}
        kept = _lock(connection, sorted(limits))
        # Read after locking: by an earlier time, a window that another transaction has begun would not have begun yet.
        now = _now(connection)
        _end_streams(connection, [write.ends for write in writes if write.ends is not None])
        # The row of a limit on streams is only a lock.
        counts = kept | _streams(connection, limits.values(), now)
        verdicts = []
        for write in writes:
            correct(counts, write.corrections, now)
            verdicts.append(grant(counts, write.claims, now))
        _begin_streams(connection, writes, verdicts, now)
        windowed = [key for key, limit in limits.items() if limit.unit != "streams"]
        _keep(connection, {key: counts[key] for key in windowed if counts[key] != kept.get(key)})
        return verdicts


@dataclass(frozen=True, slots=True)
class RenewStreams(Write[None]):
    """Extend the leases of these streams."""

    rank: ClassVar[Rank] = Rank.LIMITS
    is_apart: ClassVar[bool] = True

    ids: Sequence[str]
    lease_ms: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            for start in range(0, len(write.ids), _AT_ONCE):
                some = write.ids[start : start + _AT_ONCE]
                connection.execute(_RENEW, {"ids": some, "lease": write.lease_ms})
        return [None] * len(writes)


def _now(connection: Connection) -> int:
    now: int = connection.execute(_NOW).scalar_one()
    return now


def _counts(rows: Iterable[Any]) -> dict[Key, Count]:
    return {(row[0], row[1]): Count(*row[2:]) for row in rows}


def _lock(connection: Connection, keys: Sequence[Key]) -> dict[Key, Count]:
    """Lock these counts to the end of the transaction and return them; each is a row from then on.

    One statement inserts and locks them in their order: in two, two processes could wait for each other.
    """
    if not keys:
        return {}
    mark = _MARKS[connection.dialect.paramstyle]
    # As text: SQLAlchemy would take longer to write it than the database to run it.
    statement = _LOCK.format(rows=", ".join([mark] * len(keys)))
    return _counts(connection.exec_driver_sql(statement, tuple(chain.from_iterable(keys))))


def _streams(connection: Connection, limits: Iterable[Limit], now: int) -> dict[Key, Count]:
    """Count the living streams of these limits."""
    counted = [limit for limit in limits if limit.unit == "streams"]
    if not counted:
        return {}
    rows = connection.execute(_STREAMS, {"owners": [limit.owner for limit in counted], "now": now})
    live = {row[0]: row[1] for row in rows}
    return {limit.key: current(None, limit, now)._replace(used=live.get(limit.owner, 0)) for limit in counted}


def _begin_streams(connection: Connection, writes: Sequence[DrawLimits], verdicts: Sequence[Verdict], now: int) -> None:
    rows = [
        {"owner": claim.limit.owner, "id": write.begins, "held_until": now + write.lease_ms}
        for write, verdict in zip(writes, verdicts, strict=True)
        for claim in write.claims
        if claim.limit.unit == "streams" and verdict.refused is None
    ]
    if rows:
        connection.execute(insert(limit_streams), rows)


def _end_streams(connection: Connection, ids: Sequence[str]) -> None:
    if ids:
        connection.execute(_END, {"ids": ids})


def _keep(connection: Connection, counts: dict[Key, Count]) -> None:
    rows = [
        {"of": owner, "named": name, "now_used": count.used, "begins": count.began_at, "ends": count.ends_at}
        for (owner, name), count in counts.items()
    ]
    if rows:
        connection.execute(_KEEP, rows)
