"""The tables, as SQLAlchemy Core. Must not know who reads or writes them.

Payloads are bytes, because JSONB and TEXT alter or refuse some of the JSON that models produce. Times are unix seconds.
"""

import re
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite

# The newest file in migrations/versions. Ids are four digits, so that an older schema compares as smaller.
REVISION = "0001"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with every NUL (PostgreSQL refuses it) and lone surrogate (SQLite does) replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


class StorableText(TypeDecorator[str]):
    """Text made storable on its way in: a stored value always fits, a compared one simply finds no row."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else storable(value)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _key() -> Column[int]:
    # SQLite counts only in INTEGER, and needs AUTOINCREMENT to never hand out a deleted row's key again: a dangling
    # parent_key must stay dangling.
    return Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


projects = Table(
    "projects",
    metadata,
    Column("id", StorableText, primary_key=True),
    Column("name", StorableText, nullable=False, unique=True),
    Column("retention_days", Integer),
    Column("created_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", StorableText, primary_key=True),
    Column("project_id", StorableText, ForeignKey("projects.id"), nullable=False),
    Column("name", StorableText, nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    Column("hint", StorableText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

responses = Table(
    "responses",
    metadata,
    _key(),
    Column("project_id", StorableText, ForeignKey("projects.id"), nullable=False),
    Column("id", StorableText, nullable=False),
    # No foreign key: a parent that is gone is how a deleted ancestor is seen.
    Column("parent_key", BigInteger, index=True),
    Column("api_key_id", StorableText, nullable=False),
    Column("status", StorableText, nullable=False),
    Column("model", StorableText, nullable=False),
    Column("account", StorableText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("total_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    # Last, because SQLite walks a large value's pages to reach the columns after it.
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("project_id", "id"),
    sqlite_autoincrement=True,
)

items = Table(
    "items",
    metadata,
    _key(),
    Column("response_key", BigInteger, ForeignKey("responses.key", ondelete="CASCADE"), nullable=False),
    Column("project_id", StorableText, nullable=False),
    Column("id", StorableText, nullable=False),
    Column("position", Integer, nullable=False),
    Column("is_output", Boolean, nullable=False),
    Column("type", StorableText, nullable=False),
    Column("call_id", StorableText),
    Column("account", StorableText),
    Column("content", LargeBinary, nullable=False),
    UniqueConstraint("response_key", "position"),
    Index(None, "project_id", "id"),
    sqlite_autoincrement=True,
)

meta = Table(
    "meta",
    metadata,
    Column("name", StorableText, primary_key=True),
    Column("value", StorableText, nullable=False),
)


def insert_if_new(table: Table, dialect: Dialect) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING: the first row stays as it is."""
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect.name]
    statement: Insert = insert(table).on_conflict_do_nothing()
    return statement
