"""Remove expired responses: look at each once, so that kept ones cost later sweeps nothing (ADR 32).

An expired turn is kept until the last living turn that continues it goes, and goes with that. So a sweep looks through
all that has expired since the sweep before, by an index and from the latest on, where chains end, and removes the
turns that no other continues. Some of what earlier sweeps passed is looked at again, to find in time what they missed:
a row that was locked, or whose expiry was changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from sqlalchemy import BigInteger, Connection, Select, bindparam, delete, func, select, tuple_

from app.storage.engine.database import Database
from app.storage.engine.query_plans import read_by_index
from app.storage.tables import responses
from app.storage.writer.writer import Rank, Write, Writer

GRACE_SECONDS = 60
"""How long an expired response is kept for a call that continues it, until that call's process has extended it."""

_LOOKED_AT = 1000
"""Expired rows of one statement that reads."""

_REMOVED_AT_ONCE = 40
"""Rows of one commit: some milliseconds of the writer, even with no page cached."""

_child = responses.alias("child")


# The next entry of the index of parents is this row's own where it has a child. With an equality condition instead,
# PostgreSQL may read all living turns to find the first, if its statistics make it take parents for few.
_next_parent = func.coalesce(
    select(_child.c.parent_key)
    .where(_child.c.parent_key >= responses.c.key)
    .order_by(_child.c.parent_key)
    .limit(1)
    .correlate(responses)
    .scalar_subquery(),
    0,
)
_COLUMNS = (responses.c.expires_at, responses.c.key, (_next_parent == responses.c.key).label("is_continued"))
_LATEST_FIRST = (responses.c.expires_at.desc(), responses.c.key.desc())
_is_new = responses.c.expires_at > bindparam("seen")
# For SQLite in two statements: its indexes serve only the first member of a compared pair.
_LOOKS: Mapping[str, Sequence[Select[Any]]] = MappingProxyType(
    {
        "postgresql": (
            select(*_COLUMNS)
            .where(
                tuple_(responses.c.expires_at, responses.c.key)
                < tuple_(bindparam("at", type_=BigInteger), bindparam("before", type_=BigInteger)),
                _is_new,
            )
            .order_by(*_LATEST_FIRST)
            .limit(_LOOKED_AT),
        ),
        "sqlite": (
            select(*_COLUMNS)
            .where(responses.c.expires_at == bindparam("at"), responses.c.key < bindparam("before"), _is_new)
            .order_by(responses.c.key.desc())
            .limit(_LOOKED_AT),
            select(*_COLUMNS)
            .where(responses.c.expires_at < bindparam("at"), _is_new)
            .order_by(*_LATEST_FIRST)
            .limit(_LOOKED_AT),
        ),
    }
)
_FREE = (
    select(responses.c.key, responses.c.parent_key)
    .where(
        responses.c.key.in_(bindparam("keys", expanding=True)),
        responses.c.expires_at <= bindparam("now"),
        _next_parent != responses.c.key,
    )
    .order_by(responses.c.key)
    .with_for_update(skip_locked=True)
)
_DELETE = delete(responses).where(responses.c.key.in_(bindparam("keys", expanding=True)))


class ExpiryCursor(NamedTuple):
    """Mark how far a sweep has come, from the latest expiry on."""

    expires_at: int
    key: int


_NOTHING_SEEN = -1
_LAST_KEY = 2**63 - 1


class ResponseExpiry:
    """Sweep expired responses for one process. Times are unix seconds, by the database's clock."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        # All that had expired by this time has been looked at.
        self._seen = _NOTHING_SEEN
        # Where a failed sweep stopped, and the time that it began with.
        self._begun: tuple[ExpiryCursor, int] | None = None
        self._again = ExpiryCursor(_NOTHING_SEEN, 0)

    async def remove(self, now: int, batch: int = _REMOVED_AT_ONCE) -> int:
        """Remove the expired responses that no other continues, up to `batch` a commit; return how many."""
        removed = 0
        while self._seen < now:
            cursor, until = self._begun or (ExpiryCursor(now, _LAST_KEY), now)
            found, cursor, is_more = await self._look(cursor, self._seen)
            removed += await self._remove(found, now, batch)
            self._begun = cursor, until
            if not is_more:
                self._seen, self._begun = until, None
        found, self._again, is_more = await self._look(self._again, _NOTHING_SEEN)
        if not is_more:
            found, self._again, _ = await self._look(ExpiryCursor(now, _LAST_KEY), _NOTHING_SEEN)
        return removed + await self._remove(found, now, batch)

    async def _look(self, cursor: ExpiryCursor, seen: int) -> tuple[Sequence[int], ExpiryCursor, bool]:
        """Look at the rows behind this cursor that expired after `seen`.

        Returns the keys of those that no other continues, the next cursor, and whether more rows may follow.
        """
        given = {"at": cursor.expires_at, "before": cursor.key, "seen": seen}
        rows = await self._database.read(partial(_look, given))
        if not rows:
            return (), cursor, False
        last = rows[-1]
        return [row.key for row in rows if not row.is_continued], ExpiryCursor(last.expires_at, last.key), True

    async def _remove(self, keys: Sequence[int], now: int, batch: int) -> int:
        removed = 0
        left = list(keys)
        while left:
            some, left = left[:batch], left[batch:]
            outcome = await self._writer.submit(RemoveExpired(tuple(some), now, batch))
            removed += outcome.count
            # Long chains may need more than one commit.
            left += outcome.left
        return removed


def _look(given: Mapping[str, int], connection: Connection) -> Sequence[Any]:
    read_by_index(connection)
    for query in _LOOKS[connection.dialect.name]:
        if rows := connection.execute(query, given).all():
            return rows
    return ()


@dataclass(frozen=True, slots=True)
class Removed:
    """Count the removed responses, and name the keys that may go now that these are gone."""

    count: int
    left: Sequence[int]

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True, slots=True)
class RemoveExpired(Write[Removed]):
    """Remove these responses if they have expired and no other continues them, then their ancestors alike."""

    rank: ClassVar[Rank] = Rank.REMOVALS
    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True
    erases_later: ClassVar[bool] = True

    keys: tuple[int, ...]
    now: int
    most: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Removed]:
        return [remove(connection, write.keys, write.now, write.most) for write in writes]


def remove(connection: Connection, keys: Iterable[int], now: int, most: int) -> Removed:
    """Delete up to `most` expired turns, children before parents: these, and their ancestors that no other continues.

    Rows that another transaction has locked are left for a later sweep.
    """
    count, left = 0, sorted(set(keys))
    while left and count < most:
        room = most - count
        free = connection.execute(_FREE, {"keys": left[:room], "now": now}).all()
        if free:
            connection.execute(_DELETE, {"keys": [row.key for row in free]})
        count += len(free)
        left = sorted({*left[room:], *(row.parent_key for row in free if row.parent_key is not None)})
    return Removed(count, left)
