"""What the database has of the ledger, read beside the gateway that writes it."""

from typing import Any

from sqlalchemy import create_engine, func, select


def rows(database_url: str, table: Any) -> list[dict[str, Any]]:
    """All rows of a table."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]
    finally:
        engine.dispose()


def used(database_url: str, table: Any, *conditions: Any) -> tuple[int, ...]:
    """The tokens of all rows that meet these conditions."""
    names = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            sums = select(*[func.coalesce(func.sum(table.c[name]), 0) for name in names]).where(*conditions)
            return tuple(map(int, connection.execute(sums).one()))
    finally:
        engine.dispose()
