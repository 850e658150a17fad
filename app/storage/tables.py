"""Define the tables of responses, conversations, runs, projects, keys and audit as SQLAlchemy Core.

Payloads are bytes, because JSONB and TEXT alter or refuse some of the JSON that models produce. Times are unix seconds.
"""

from importlib import import_module
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
    UniqueConstraint,
    false,
    text,
)

from app.storage.engine.storable_text import StorableId, StorableText

# The newest file in migrations/versions. Ids are four digits, so that an older schema compares as smaller.
REVISION = "0020"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def surrogate_key() -> Column[int]:
    """Make a primary key that counts up and is never reused."""
    # SQLite counts only in INTEGER, and needs AUTOINCREMENT to never hand out a deleted row's key again: a dangling
    # parent_key must stay dangling.
    return Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _index_of_some(name: str, *columns: str, where: str) -> Index:
    """Make a partial index; a query uses it where it states the same condition in the same words."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


projects = Table(
    "projects",
    metadata,
    Column("id", StorableText, primary_key=True),
    Column("name", StorableText, nullable=False, unique=True),
    Column("retention_days", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    # JSON (app.state.policies); None where nothing is limited.
    Column("policy", LargeBinary),
    Column("conversation_days", Integer),
    # When its retention became shorter, as long as there may be responses that are kept for longer.
    Column("shortened_at", BigInteger),
    # The start of its erasure.
    Column("erasing_at", BigInteger),
    Index(None, "created_at", "id"),
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
    Column("owner", StorableText),
    # JSON: a list of texts.
    Column("tags", LargeBinary),
    Column("expires_at", BigInteger),
    Column("blocked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("version", Integer, nullable=False, server_default="1"),
    # JSON (app.state.policies); None for what every key may do.
    Column("policy", LargeBinary),
    # While a rotation's overlap lasts, the key before it is good as well.
    Column("previous_hash", LargeBinary),
    Column("previous_until", BigInteger),
    # The key whose holder granted this one its right to administer, or was shown it: both end together.
    Column("granted_by", StorableText, index=True),
    Index(None, "previous_hash", unique=True),
    Index(None, "created_at", "id"),
    Index(None, "project_id", "created_at", "id"),
)

# What administrators did. Rows are added, and never changed or deleted.
audit = Table(
    "audit",
    metadata,
    surrogate_key(),
    Column("id", StorableText, nullable=False, unique=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", StorableText, nullable=False),
    Column("address", StorableText),
    Column("action", StorableText, nullable=False),
    Column("subject", StorableText, nullable=False),
    Column("details", LargeBinary, nullable=False),
    Index(None, "subject", "key"),
    sqlite_autoincrement=True,
)

responses = Table(
    "responses",
    metadata,
    surrogate_key(),
    Column("project_id", StorableText, ForeignKey("projects.id"), nullable=False),
    Column("id", StorableId, nullable=False),
    # No foreign key: a parent that is gone is how a deleted ancestor is seen.
    Column("parent_key", BigInteger, index=True),
    Column("api_key_id", StorableText, nullable=False),
    Column("status", StorableText, nullable=False),
    Column("model", StorableText, nullable=False),
    Column("account", StorableText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
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
    Index(None, "expires_at", "key"),
    sqlite_autoincrement=True,
)

# The index that finds an item's response by the item's id.
items = Table(
    "items",
    metadata,
    Column("response_key", BigInteger, ForeignKey("responses.key", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("project_id", StorableText, nullable=False),
    Column("id", StorableId, nullable=False),
    # The newest response with an item is at the end of the item's entries.
    Index(None, "project_id", "id", "response_key"),
    sqlite_with_rowid=False,
)

meta = Table(
    "meta",
    metadata,
    Column("name", StorableText, primary_key=True),
    Column("value", StorableText, nullable=False),
)


# The lock of a conversation is a lease: `holder` names the call that will append, until `held_until` unless extended.
# `used_at` is when the conversation was last changed, to the hour; NULL while that is the hour of `created_at`.
conversations = Table(
    "conversations",
    metadata,
    surrogate_key(),
    Column("project_id", StorableText, ForeignKey("projects.id"), nullable=False),
    Column("id", StorableText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("holder", StorableText),
    Column("held_until", BigInteger),
    Column("item_count", BigInteger, nullable=False),
    # `conversation_items` knows the turns up to this key. Later ones were added by a release without that table.
    Column("indexed_key", BigInteger),
    Column("metadata", LargeBinary, nullable=False),
    Column("used_at", BigInteger),
    UniqueConstraint("project_id", "id"),
    # Only the expiry of idle conversations uses it. Of two indexes that begin with a project, PostgreSQL may choose the
    # wrong one while the table's statistics are young.
    Index("ix_conversations_idle", text("(project_id || '')"), "used_at", "created_at"),
    sqlite_autoincrement=True,
)

# The turns of a conversation, oldest first, in the form of `responses`: the copy of a response's turn, because the
# response may expire or be deleted, or the items that a client added in one call.
conversation_turns = Table(
    "conversation_turns",
    metadata,
    surrogate_key(),
    Column("conversation_key", BigInteger, ForeignKey("conversations.key", ondelete="CASCADE"), nullable=False),
    Column("outline", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(None, "conversation_key", "key"),
    sqlite_autoincrement=True,
)

# The turn of a conversation in which an item stands.
conversation_items = Table(
    "conversation_items",
    metadata,
    Column("conversation_key", BigInteger, ForeignKey("conversations.key", ondelete="CASCADE"), primary_key=True),
    Column("id", StorableId, primary_key=True),
    Column("turn_key", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Which responses were made in a conversation, and after which of its turns: their context. No foreign key to the
# conversation: one that is gone is how a broken chain is seen.
conversation_responses = Table(
    "conversation_responses",
    metadata,
    Column(
        "response_key",
        BigInteger,
        ForeignKey("responses.key", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("conversation_key", BigInteger, nullable=False),
    Column("last_turn_key", BigInteger, nullable=False),
    Index(None, "conversation_key", "last_turn_key"),
)

# Responses in the background, until some time after their end. An unfinished run belongs to `owner` up to
# `lease_until`; each change of owner counts up `epoch`, which refuses the late writes of an earlier owner.
runs = Table(
    "runs",
    metadata,
    surrogate_key(),
    Column("project_id", StorableText, ForeignKey("projects.id"), nullable=False),
    Column("id", StorableText, nullable=False),
    Column("api_key_id", StorableText, nullable=False),
    Column("status", StorableText, nullable=False),
    Column("is_stored", Boolean, nullable=False),
    Column("is_streamed", Boolean, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("owner", StorableText),
    Column("epoch", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # None until it has ended.
    Column("expires_at", BigInteger, index=True),
    Column("headers", LargeBinary, nullable=False),
    # The client's body; None once the run has ended.
    Column("request", LargeBinary),
    # The response object as it stands.
    Column("body", LargeBinary, nullable=False),
    # Whether the client named OpenAI's beta in its query.
    Column("is_beta", Boolean, nullable=False, server_default=false()),
    # What was granted of its caller's limits; None from an older release.
    Column("drawn", LargeBinary),
    # The requested model, and the conversation to append to, if any. None from an older release.
    Column("model", StorableText),
    Column("conversation_id", StorableText),
    UniqueConstraint("project_id", "id"),
    Index(None, "status", "lease_until"),
    _index_of_some("ix_runs_unfinished", "project_id", "key", where="request IS NOT NULL"),
    _index_of_some(
        "ix_runs_in_conversations",
        *("project_id", "conversation_id", "key"),
        where="conversation_id IS NOT NULL AND expires_at IS NULL",
    ),
    _index_of_some("ix_runs_owned", "owner", where="owner IS NOT NULL"),
    _index_of_some("ix_runs_cancelling", "lease_until", where="cancel_requested AND request IS NOT NULL"),
    sqlite_autoincrement=True,
)

# The event log of a streamed run: whole frames, some to a row, from one sequence number to another.
run_events = Table(
    "run_events",
    metadata,
    Column("run_key", BigInteger, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("first_number", BigInteger, primary_key=True),
    Column("last_number", BigInteger, nullable=False),
    Column("frames", LargeBinary, nullable=False),
)


def insert_if_new(table: Table, dialect: Dialect) -> Insert:
    """Build INSERT … ON CONFLICT DO NOTHING: the first row stays as it is."""
    # By name, because the other database's module is long to load and not used.
    insert: Any = import_module(f"sqlalchemy.dialects.{dialect.name}").insert
    statement: Insert = insert(table).on_conflict_do_nothing()
    return statement
