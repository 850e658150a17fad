"""Delete the counts and streams of limits that have ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import Connection, delete, select, tuple_

from app.storage.engine.clock import DatabaseMilliseconds
from app.storage.limits.tables import limit_counts, limit_streams
from app.storage.writer.writer import Rank, Write

_COLUMNS = (limit_counts.c.owner, limit_counts.c.name)


@dataclass(frozen=True, slots=True)
class PurgeLimits(Write[int]):
    """Delete the counts and streams that have ended."""

    rank: ClassVar[Rank] = Rank.LIMITS
    is_apart: ClassVar[bool] = True

    grace_ms: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int]:
        return [_purge(connection, write.grace_ms) for write in writes]


def _purge(connection: Connection, grace_ms: int) -> int:
    since = DatabaseMilliseconds() - grace_ms
    # Skip locked counts instead of waiting, whatever the order: the next purge finds them.
    over = select(*_COLUMNS).where(limit_counts.c.ends_at < since).with_for_update(skip_locked=True)
    counts = connection.execute(delete(limit_counts).where(tuple_(*_COLUMNS).in_(over))).rowcount
    ended = select(limit_streams.c.id).where(limit_streams.c.held_until < since).with_for_update(skip_locked=True)
    return counts + connection.execute(delete(limit_streams).where(limit_streams.c.id.in_(ended))).rowcount
