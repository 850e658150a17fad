"""Page through rows that have an id and a creation time, newest first."""

from typing import Any

from sqlalchemy import Select, Table, select, tuple_


def newest_first(
    page: Select[*tuple[Any, ...]], table: Table, *, after: str | None, limit: int
) -> Select[*tuple[Any, ...]]:
    """Limit the query to the `limit` rows that follow the row `after`; to none where there is no such row."""
    page = page.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    if after is None:
        return page
    place = select(table.c.created_at, table.c.id).where(table.c.id == after)
    return page.where(tuple_(table.c.created_at, table.c.id) < place.scalar_subquery())
