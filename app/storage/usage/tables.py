"""Define the tables of usage: a row for each call, and their sums by the hour and by the day.

They have what calls used and how they ended, and no content. Times are unix seconds, costs nano-dollars.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, false, text

from app.storage.engine.storable_text import StorableId, StorableText
from app.storage.tables import metadata

# An account is an upstream's name and the fingerprint of its key. `is_stored`: a response was to be stored under this
# id, so the row is the only one of that response. `is_estimated`: upstream reported no usage.
usage = Table(
    "usage",
    metadata,
    Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("request_id", StorableText, nullable=False),
    Column("project_id", StorableText, nullable=False),
    Column("api_key_id", StorableText, nullable=False),
    Column("endpoint", StorableText, nullable=False),
    Column("model", StorableText, nullable=False),
    Column("model_served", StorableText),
    Column("upstream", StorableText),
    Column("key_fingerprint", StorableText),
    Column("status", Integer, nullable=False),
    Column("response_status", StorableText),
    Column("error_code", StorableText),
    Column("attempts", Integer, nullable=False),
    Column("affinity", StorableText),
    Column("input_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("latency_ms", BigInteger),
    Column("first_byte_ms", BigInteger),
    Column("is_stream", Boolean, nullable=False),
    Column("is_background", Boolean, nullable=False),
    Column("is_stored", Boolean, nullable=False),
    Column("response_id", StorableId),
    Column("service_tier", StorableText),
    Column("cache_write_tokens", BigInteger),
    Column("web_searches", BigInteger),
    Column("file_searches", BigInteger),
    Column("is_estimated", Boolean, nullable=False, server_default=false()),
    Index(None, "at"),
    Index(None, "project_id", "at"),
    Index(None, "api_key_id", "at"),
    # The only index with a response's id, so that PostgreSQL uses no other, whatever its statistics say.
    Index(
        "uq_usage_stored",
        "response_id",
        "project_id",
        unique=True,
        sqlite_where=text("is_stored"),
        postgresql_where=text("is_stored"),
    ),
    sqlite_autoincrement=True,
)

# Sums of entries, which outlive them. `upstream` is "" for calls for which none was asked, `model` is "" for calls that
# no model answered: clients make names up, and a name in these sums stays for ever.
usage_hours = Table(
    "usage_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("project_id", StorableText, primary_key=True),
    Column("api_key_id", StorableText, primary_key=True),
    Column("model", StorableText, primary_key=True),
    Column("upstream", StorableText, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("unpriced_requests", BigInteger, nullable=False),
    Column("kept_requests", BigInteger, nullable=False),
    Column("kept_input_tokens", BigInteger, nullable=False),
    Column("kept_cached_tokens", BigInteger, nullable=False),
    Column("moved_requests", BigInteger, nullable=False),
    Column("moved_input_tokens", BigInteger, nullable=False),
    Column("moved_cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False, server_default="0"),
    Column("estimated_requests", BigInteger, nullable=False, server_default="0"),
    Index(None, "project_id", "hour"),
    Index(None, "api_key_id", "hour"),
    sqlite_with_rowid=False,
)

# The same sums by the day, for long times. Kept by triggers (app.storage.usage.daily_sums).
usage_days = Table(
    "usage_days",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    *[
        Column(column.name, column.type, primary_key=column.primary_key, nullable=False)
        for column in usage_hours.columns
        if column is not usage_hours.c.hour
    ],
    Index(None, "project_id", "day"),
    Index(None, "api_key_id", "day"),
    sqlite_with_rowid=False,
)
