"""The database's own clock: the one that all replicas agree on, and so the one that leases are measured by."""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class DatabaseTime(FunctionElement[int]):
    """Unix seconds at the moment when the statement runs, also late in a transaction."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseTime, "sqlite")
def _in_sqlite(*_: Any, **__: Any) -> str:
    return "CAST(strftime('%s', 'now') AS INTEGER)"


@compiles(DatabaseTime, "postgresql")
def _in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)"


class DatabaseMilliseconds(FunctionElement[int]):
    """The same in unix milliseconds."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseMilliseconds, "sqlite")
def _milliseconds_in_sqlite(*_: Any, **__: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(DatabaseMilliseconds, "postgresql")
def _milliseconds_in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"
