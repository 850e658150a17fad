"""Report which master secrets a database was written under, and which of them a setting still has to keep."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.security.encryption import sealed_under
from app.security.key_ring import KeyRing
from app.state.upstreams import StoredKey


@dataclass(frozen=True, slots=True)
class SecretUse:
    """Describe one master secret, by its fingerprint.

    `source` says where this process has its keys from. `is_written_under`: gateways encrypt under it now.
    `upstream_keys` counts the stored keys under it. `is_needed`: without it in a setting something could not be read.
    """

    fingerprint: str
    source: Literal["present", "previous", "database", "unknown"]
    is_written_under: bool
    upstream_keys: int
    is_needed: bool


def secret_uses(ring: KeyRing, kept: Mapping[str, str], stored: Sequence[StoredKey]) -> Sequence[SecretUse]:
    """Report each secret, the present one first. `kept` is the database's key ring, by place."""
    sealed = Counter(sealed_under(key.secret) for key in stored)
    known = [ring.present, *(keys.fingerprint for keys in (ring.named, *ring.others))]
    return [_use(name, ring, kept, sealed[name]) for name in dict.fromkeys((*known, *sealed))]


def _use(name: str, ring: KeyRing, kept: Collection[str], upstream_keys: int) -> SecretUse:
    is_previous = ring.is_own(name) and name != ring.present
    source: Literal["present", "previous", "database", "unknown"]
    if is_previous:
        source = "previous"
    elif name == ring.present:
        source = "present"
    else:
        source = "unknown" if ring.get(name) is None else "database"
    is_needed = name == ring.present or (is_previous and f"{name}.{ring.present}" not in kept)
    return SecretUse(name, source, name == ring.named.fingerprint, upstream_keys, is_needed)
