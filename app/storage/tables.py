"""The tables, as SQLAlchemy Core. Must not know who reads or writes them.

Payloads are bytes, because JSONB and TEXT alter or refuse some of the JSON that models produce. Times are unix seconds.
"""

import re
from importlib import import_module
from typing import Any

from sqlalchemy import (
    BigInteger,
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

# The newest file in migrations/versions. Ids are four digits, so that an older schema compares as smaller.
REVISION = "0002"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with every NUL (PostgreSQL refuses it) and lone surrogate (SQLite does) replaced by U+FFFD."""
    # Nearly every text is plain: the search would cost more than all else that is done with it.
    if text.isascii() and "\x00" not in text:
        return text
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
    # The turn as a chain is read (app.state.records.Turn): an encoded Outline, and the content of its items, joined.
    # Large values last, because SQLite walks their pages to reach the columns after them.
    Column("outline", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("project_id", "id"),
    sqlite_autoincrement=True,
)

# Where an item is, for those who name it by its id.
items = Table(
    "items",
    metadata,
    Column("response_key", BigInteger, ForeignKey("responses.key", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("project_id", StorableText, nullable=False),
    Column("id", StorableText, nullable=False),
    Index(None, "project_id", "id"),
    sqlite_with_rowid=False,
)

meta = Table(
    "meta",
    metadata,
    Column("name", StorableText, primary_key=True),
    Column("value", StorableText, nullable=False),
)


def insert_if_new(table: Table, dialect: Dialect) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING: the first row stays as it is."""
    # By name, because the other database's module is long to load and not used.
    insert: Any = import_module(f"sqlalchemy.dialects.{dialect.name}").insert
    statement: Insert = insert(table).on_conflict_do_nothing()
    return statement
