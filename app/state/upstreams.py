"""Define the records of upstreams and upstream keys that administrators made. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.state.account_conditions import Control


@dataclass(frozen=True, slots=True)
class StoredUpstream:
    """Store an upstream that an administrator made. `settings` is JSON; `version` counts its changes from 1."""

    name: str
    version: int
    created_at: int
    settings: bytes


@dataclass(frozen=True, slots=True)
class StoredKey:
    """Store an upstream key, for a stored or a configured upstream. `secret` is encrypted; `hint` shows its end.

    `account` is the name of the account of both.
    """

    id: str
    upstream: str
    account: str
    name: str | None
    hint: str
    created_at: int
    secret: str = field(repr=False)
    settings: bytes


@dataclass(frozen=True, slots=True)
class StoredUpstreams:
    """Hold all that administrators made of the pool at a `revision` (None: nothing yet); `controls` by account."""

    revision: str | None
    upstreams: Sequence[StoredUpstream]
    keys: Sequence[StoredKey]
    controls: Mapping[str, Control]


NOTHING_STORED = StoredUpstreams(None, (), (), {})
