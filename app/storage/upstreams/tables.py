"""Define the tables of accounts' conditions and controls, and of stored upstreams and their keys."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, UniqueConstraint

from app.storage.engine.storable_text import StorableText
from app.storage.tables import metadata

# The health of an account, or of one of its models ("" is the whole account), as the last process wrote it. `state` is
# the worst condition or "usable"; times are the database's. `version` counts the changes of a row.
conditions = Table(
    "conditions",
    metadata,
    Column("account", StorableText, primary_key=True),
    Column("model", StorableText, primary_key=True),
    Column("state", StorableText, nullable=False),
    Column("step", Integer, nullable=False),
    Column("reason", StorableText, nullable=False),
    # The end of the cooldown, or of the time that one process has to probe the account.
    Column("until", BigInteger, nullable=False),
    # Seconds: no cooldown lasts longer, whatever the clock does.
    Column("rest", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False, index=True),
    Column("version", BigInteger, nullable=False),
    # A rate limit goes on beneath a worse condition: its end, its full length, and its reason.
    Column("cooling_until", BigInteger, nullable=False, server_default="0"),
    Column("cooling_rest", BigInteger, nullable=False, server_default="0"),
    Column("cooling_reason", StorableText, nullable=False, server_default=""),
)

# An administrator's control of an account: "draining" or "disabled". Enabled accounts have no row.
account_controls = Table(
    "account_controls",
    metadata,
    Column("account", StorableText, primary_key=True),
    Column("state", StorableText, nullable=False),
)

# Upstreams that administrators made, beside those of the configuration.
upstreams = Table(
    "upstreams",
    metadata,
    Column("name", StorableText, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # JSON (app.settings.gateway.UpstreamSettings, without name and keys).
    Column("settings", LargeBinary, nullable=False),
)

# Keys for these upstreams, or for one of the configuration: no foreign key.
upstream_keys = Table(
    "upstream_keys",
    metadata,
    Column("id", StorableText, primary_key=True),
    Column("upstream", StorableText, nullable=False),
    # The name of the account that it makes with its upstream.
    Column("account", StorableText, nullable=False, unique=True),
    Column("name", StorableText),
    Column("hint", StorableText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # As app.security.encryption.Vault seals it, bound to the id.
    Column("secret", StorableText, nullable=False),
    # JSON: what else is set for it.
    Column("settings", LargeBinary, nullable=False),
    UniqueConstraint("upstream", "name"),
)
