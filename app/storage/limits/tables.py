"""Define the tables of limit counts and streams. Times are unix milliseconds, by the database's clock."""

from sqlalchemy import BigInteger, Column, Index, Table

from app.storage.engine.storable_text import StorableText
from app.storage.tables import metadata

# What a key or a project (`owner`) has used of one of its limits in the current window.
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

# The streams that a limit counts: leases, which end by themselves after a kill.
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
