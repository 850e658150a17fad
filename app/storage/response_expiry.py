"""Remove expired responses: each is looked at once, and what is kept costs a sweep nothing from then on (ADR 32).

An expired turn that others continue is kept until the last of them goes, and goes with it. So a sweep looks through
what has expired since the one before it, by an index and from the latest on, which is where chains end, and removes
what nobody continues. Some of what earlier sweeps passed is looked at again, which finds in time what was missed: a row
that was locked, or whose expiry was changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from sqlalchemy import BigInteger, Connection, Select, bindparam, delete, func, select, tuple_

from app.storage.database import Database
from app.storage.plans import read_by_index
from app.storage.tables import responses
from app.storage.writer import Rank, Write, Writer

GRACE_SECONDS = 60
"""How long an expired response is kept for a call that continues it, until that call's process has extended it."""

_LOOKED_AT = 1000
"""Expired rows of one statement that reads."""

_REMOVED_AT_ONCE = 40
"""Rows of one commit: some milliseconds of the writer, though none of their pages is in memory."""

_child = responses.alias("child")


# The next entry of the index of parents is this row's own where it has a child. Asked for a row that is equal to it,
# PostgreSQL may read all living turns in search of the first, if its statistics make it take parents for few.
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
# For SQLite in two statements: it compares no more than the first members of a pair by an index.
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


class Place(NamedTuple):
    """How far a look has come, from the latest expiry on."""

    expires_at: int
    key: int


_NOTHING_SEEN = -1
_LAST_KEY = 2**63 - 1


class ResponseExpiry:
    """The sweeps of one process. Times are unix seconds, by the database's clock."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        # All that had expired by then has been looked at.
        self._seen = _NOTHING_SEEN
        # What a sweep that failed has come to, and the time that it began with.
        self._begun: tuple[Place, int] | None = None
        self._again = Place(_NOTHING_SEEN, 0)

    async def remove(self, now: int, batch: int = _REMOVED_AT_ONCE) -> int:
        """Remove what has expired and nobody continues, up to `batch` responses a commit; return how many."""
        removed = 0
        while self._seen < now:
            place, until = self._begun or (Place(now, _LAST_KEY), now)
            found, place, is_more = await self._look(place, self._seen)
            removed += await self._remove(found, now, batch)
            self._begun = place, until
            if not is_more:
                self._seen, self._begun = until, None
        found, self._again, is_more = await self._look(self._again, _NOTHING_SEEN)
        if not is_more:
            found, self._again, _ = await self._look(Place(now, _LAST_KEY), _NOTHING_SEEN)
        return removed + await self._remove(found, now, batch)

    async def _look(self, place: Place, seen: int) -> tuple[Sequence[int], Place, bool]:
        """Rows behind this place that expired after `seen` and nobody continues; the next place; if more follow."""
        given = {"at": place.expires_at, "before": place.key, "seen": seen}
        rows = await self._database.read(partial(_look, given))
        if not rows:
            return (), place, False
        last = rows[-1]
        return [row.key for row in rows if not row.is_continued], Place(last.expires_at, last.key), True

    async def _remove(self, keys: Sequence[int], now: int, batch: int) -> int:
        removed = 0
        left = list(keys)
        while left:
            some, left = left[:batch], left[batch:]
            outcome = await self._writer.submit(RemoveExpired(tuple(some), now, batch))
            removed += outcome.count
            # What was one commit too much, of chains that are long.
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
    """How many responses went, and which may go now that these are gone."""

    count: int
    left: Sequence[int]

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True, slots=True)
class RemoveExpired(Write[Removed]):
    """The removal of those of these responses that have expired and that nobody continues, then of their ancestors."""

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
    """Delete up to `most` expired turns, children before their parents: from these, as far up as nobody else continues.

    Rows that somebody has locked are left out, for a later look.
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
