"""The tables of the upstream pool: accounts' health, what was made of them, and upstreams that are kept here."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, UniqueConstraint

from app.storage.storable import StorableText
from app.storage.tables import metadata

# An account's health, or that of one model of it ("" is the whole account), as the process saw it that wrote it last.
# `state` is the worst ailment or "usable"; times are the database's. `version` counts the changes of a row.
conditions = Table(
    "conditions",
    metadata,
    Column("account", StorableText, primary_key=True),
    Column("model", StorableText, primary_key=True),
    Column("state", StorableText, nullable=False),
    Column("step", Integer, nullable=False),
    Column("reason", StorableText, nullable=False),
    # The end of its rest, or of the time that one process has to probe it.
    Column("until", BigInteger, nullable=False),
    # Seconds: no rest lasts longer, whatever happens to the clock.
    Column("rest", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False, index=True),
    Column("version", BigInteger, nullable=False),
    # A rate limit goes on beneath what is worse: its end, how long it was to last, and its reason.
    Column("cooling_until", BigInteger, nullable=False, server_default="0"),
    Column("cooling_rest", BigInteger, nullable=False, server_default="0"),
    Column("cooling_reason", StorableText, nullable=False, server_default=""),
)

# What an administrator made of an account: "draining" or "disabled". The others have no row.
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
    # JSON (app.settings.UpstreamSettings, without name and keys).
    Column("settings", LargeBinary, nullable=False),
)

# Keys for these upstreams, or for one of the configuration: no foreign key.
upstream_keys = Table(
    "upstream_keys",
    metadata,
    Column("id", StorableText, primary_key=True),
    Column("upstream", StorableText, nullable=False),
    # The name of what it makes of its upstream.
    Column("account", StorableText, nullable=False, unique=True),
    Column("name", StorableText),
    Column("hint", StorableText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # As app.sealing.Vault seals it, bound to the id.
    Column("secret", StorableText, nullable=False),
    # JSON: what else is set for it.
    Column("settings", LargeBinary, nullable=False),
    UniqueConstraint("upstream", "name"),
)
