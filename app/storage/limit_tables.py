"""The tables of what is used of limits. Times are unix milliseconds, by the database's clock."""

from sqlalchemy import BigInteger, Column, Index, Table

from app.storage.storable import StorableText
from app.storage.tables import metadata

# What a key or a project (`owner`) has used of one of its limits, in the window that is counted in now.
limit_counts = Table(
    "limit_counts",
    metadata,
    Column("owner", StorableText, primary_key=True),
    Column("name", StorableText, primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Index(None, "ends_at"),
    sqlite_with_rowid=False,
)

# The streams that a limit counts: leases, which end by themselves where a process was killed.
limit_streams = Table(
    "limit_streams",
    metadata,
    Column("owner", StorableText, primary_key=True),
    Column("id", StorableText, primary_key=True),
    Column("held_until", BigInteger, nullable=False),
    Index(None, "held_until"),
    Index(None, "id"),
    sqlite_with_rowid=False,
)
