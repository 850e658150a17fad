"""Tell the time by the database's clock, on which all replicas agree: leases and expiry go by it."""

import time
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

# An error of this size breaks leases and cooldowns; synchronised clocks agree to a second.
_MOST_SECONDS_OFF = 180.0


class DatabaseTime(FunctionElement[int]):
    """Compute unix seconds in SQL, at the moment when the statement runs, also late in a transaction."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseTime, "sqlite")
def _in_sqlite(*_: Any, **__: Any) -> str:
    return "CAST(strftime('%s', 'now') AS INTEGER)"


@compiles(DatabaseTime, "postgresql")
def _in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)"


class DatabaseMilliseconds(FunctionElement[int]):
    """Compute unix milliseconds in SQL, at the moment when the statement runs."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseMilliseconds, "sqlite")
def _milliseconds_in_sqlite(*_: Any, **__: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(DatabaseMilliseconds, "postgresql")
def _milliseconds_in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"


class DatabaseClock:
    """Tell the database's time by this process's clock, corrected by what was measured last (unix seconds).

    A process whose clock is wrong gives what it writes the right expiry all the same, and removes nothing.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds that this process's clock is ahead of the database's."""

    @property
    def is_off(self) -> bool:
        """Return whether the clocks differ by more than any error of measurement."""
        return abs(self.ahead) > _MOST_SECONDS_OFF

    def now(self) -> int:
        """Return the database's time."""
        return int(time.time() - self.ahead)

    def of(self, seconds: int) -> int:
        """Convert a time of this process's clock to the database's."""
        return seconds - round(self.ahead)
