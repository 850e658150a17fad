"""Define the table of idempotency keys. Times are unix seconds, by the database's clock."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    false,
)

from app.storage.engine.storable_text import StorableId, StorableText
from app.storage.tables import metadata, surrogate_key

# A call that was made under a client's key: while it runs, the lease of its `owner`; afterwards its answer. `name` is a
# hash of the client's key, and `fingerprint` one of that and the request.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    surrogate_key(),
    Column("project_id", StorableText, ForeignKey("projects.id"), nullable=False),
    Column("api_key_id", StorableText, nullable=False),
    Column("name", StorableText, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("owner", StorableText, index=True),
    Column("lease_until", BigInteger),
    # The response or the conversation that the answer shows; they are removed together.
    Column("object_id", StorableId),
    # Whether the answer is the event log of the run of that id, and not kept here.
    Column("is_logged", Boolean, nullable=False, server_default=false()),
    # Of the answer; None while the call runs.
    Column("status", Integer),
    Column("headers", LargeBinary),
    # None where the answer is not kept.
    Column("body", LargeBinary),
    UniqueConstraint("project_id", "api_key_id", "name"),
    Index(None, "project_id", "object_id"),
    sqlite_autoincrement=True,
)
