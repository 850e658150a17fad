"""Upstreams and their keys as the database keeps them. Pure: what their settings mean is not here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.state.health import Control


@dataclass(frozen=True, slots=True)
class StoredUpstream:
    """An upstream that an administrator made. `settings` is JSON; `version` counts its changes from 1."""

    name: str
    version: int
    created_at: int
    settings: bytes


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key for one of these upstreams or of the configuration's. `secret` is sealed; `hint` shows its end.

    `account` is the name that the two have together.
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
class Stored:
    """What administrators made of the pool, at one `revision` (None: nothing yet). `controls` are by account name."""

    revision: str | None
    upstreams: Sequence[StoredUpstream]
    keys: Sequence[StoredKey]
    controls: Mapping[str, Control]


NOTHING_STORED = Stored(None, (), (), {})
