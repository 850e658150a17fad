"""Limits to count, and how time goes by for those that are counted in the database."""

from collections.abc import Iterable

from sqlalchemy import update

from app.state.limit_windows import Limit, Verdict
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.limits.tables import limit_counts

REQUESTS = Limit("key_1", "API key", "requests", "minute", 10)
SHARED = Limit("proj_a", "project", "requests", "minute", 15)
STREAMS = Limit("key_1", "API key", "streams", None, 2)
TOKENS = Limit("key_1", "API key", "tokens", "minute", 1000)
BUDGET = Limit("key_1", "API key", "usd", "month", 1000)


def granted(verdicts: Iterable[Verdict]) -> int:
    return sum(verdict.refused is None for verdict in verdicts)


async def shift(limits: DatabaseCounts, milliseconds: int, name: str | None = None) -> None:
    """Have all windows be so much later: as if time had gone by."""
    move = update(limit_counts).values(
        began_at=limit_counts.c.began_at + milliseconds, ends_at=limit_counts.c.ends_at + milliseconds
    )
    if name is not None:
        move = move.where(limit_counts.c.name == name)
    await limits._writer._database.write(lambda session: session.write(lambda connection: connection.execute(move)))
