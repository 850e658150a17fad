"""Authenticate callers: mint and check API keys, find the caller that a key names, and check what it may do."""

import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache

from pydantic import SecretStr

from app.errors import AuthenticationError, PermissionDeniedError, StorageError
from app.runtime.deadline import Deadline
from app.security.failed_key_throttle import Throttle
from app.security.key_ring import KeyRing
from app.state.ip_addresses import Network, read_address, read_network
from app.state.policies import Scope, has_scope
from app.state.records import ApiKey
from app.storage.keys.last_used import LastUsed
from app.storage.keys.store import FoundKey, KeyStore

_PREFIX = "sk-aph_"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 32
_CHECKSUM_LENGTH = 6
_KEY_LENGTH = len(_PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH
_CACHED_KEYS = 10_000
# A flood makes any number of refusals: they have a cache of their own, and evict no keys that exist.
_CACHED_REFUSALS = 1000
# A hash costs as much as the rest of an authentication.
_REMEMBERED_HASHES = 1000
_STALE_SECONDS = 60.0
# How long a key that may still serve is looked up again, while the database does not answer.
_PATIENCE_SECONDS = 1.0

_MISSING = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)
_INCORRECT = "Incorrect API key provided. Ask the operator of this gateway for a key of your own."
_EXPIRED = "Your API key has expired. Ask the operator of this gateway for a new one."
_ELSEWHERE = "Your IP address is not among those that this API key may be used from."


def mint_key() -> str:
    """Make a new API key: `sk-aph_`, 32 random base62 characters (190 bits), 6 of checksum."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_LENGTH))
    return f"{_PREFIX}{secret}{_checksum(secret)}"


def is_well_formed(key: str) -> bool:
    """Tell whether this could be a key of ours. A mistyped or made-up key is refused here, without a query."""
    secret = key[len(_PREFIX) : -_CHECKSUM_LENGTH]
    return (
        key.startswith(_PREFIX)
        and len(secret) == _RANDOM_LENGTH
        and key.isascii()
        and hmac.compare_digest(_checksum(secret), key[-_CHECKSUM_LENGTH:])
    )


def _checksum(secret: str) -> str:
    number = binascii.crc32(secret.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


class KeyHasher:
    """Hash API keys with the gateway's secret: a copy of the database is of no use without the secret."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._remembered = lru_cache(_REMEMBERED_HASHES)(_hash)

    def hash(self, key: str) -> bytes:
        """Return the 32 bytes under which a key is stored now. The hashes of recently used keys are cached."""
        pepper = self._ring.named.pepper
        # A text of another length than a key would only evict a key, and may be of any size.
        return self._remembered(pepper, key) if len(key) == _KEY_LENGTH else _hash(pepper, key)

    def other_hashes(self, key: str) -> Iterator[bytes]:
        """Return the hashes under which a key may be stored by a process with another master secret, now or earlier."""
        return (_hash(keys.pepper, key) for keys in self._ring.others)


def _hash(pepper: bytes, key: str) -> bytes:
    return hmac.digest(pepper, key.encode(), hashlib.sha256)


class MasterKey:
    """Recognise the administrator's key from the settings, if one is set; only its digest is held."""

    def __init__(self, key: SecretStr | None) -> None:
        self._digest = None if key is None else _digest(key.get_secret_value())

    def is_carried(self, headers: Mapping[str, str]) -> bool:
        """Tell whether these headers carry the key, in constant time. Raises AuthenticationError without any key."""
        given = _digest(_carried(headers))
        return self._digest is not None and hmac.compare_digest(given, self._digest)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


@dataclass(slots=True)
class _Known:
    """Cache a key as it was read, with its networks. `until` is its end, if it is the one before a rotation."""

    key: ApiKey
    until: int | None
    networks: Sequence[Network]
    read_at: float


class Authenticator:
    """Turn a request's credential into the API key record that acts, if that may do what is asked.

    Invariant: fails closed. Every way out is a record that was read as valid, AuthenticationError, ThrottledError,
    PermissionDeniedError or StorageError. A change by another process is seen after `cache_seconds`; while the database
    is down a key read within the last minute still serves. Invariant: keys that do not exist evict no keys that do, and
    after so many of them from one address (`throttle`) no further one is looked up; known keys still serve.
    """

    def __init__(
        self, keys: KeyStore, hasher: KeyHasher, uses: LastUsed, cache_seconds: float, throttle: Throttle
    ) -> None:
        self._keys = keys
        self._hasher = hasher
        self._uses = uses
        self._cache_seconds = cache_seconds
        self._throttle = throttle
        self._patience = Deadline(_PATIENCE_SECONDS)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        # When keys were refused, by their hashes.
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        self._changes = 0

    async def identify(self, headers: Mapping[str, str], address: str | None, scope: Scope) -> ApiKey:
        """Return the caller's key, when it is valid, from this address, and has this scope.

        The bearer header comes first; `x-api-key` and `api-key` carry the same.
        """
        key = _carried(headers)
        key_hash = self._hasher.hash(key)
        known = self._known.get(key_hash)
        if known is None:
            known = await self._meet(key, key_hash, address)
        elif time.monotonic() - known.read_at >= self._cache_seconds:
            known = await self._find(key, key_hash, known)
        caller = _permitted(known, address, scope)
        self._uses.note(caller.id)
        return caller

    async def identify_anew(self, headers: Mapping[str, str], address: str | None, scope: Scope) -> ApiKey:
        """Identify by what the database has now: a key that has ended administers nothing, on no replica.

        The key before a rotation ends with its overlap, and the keys that it makes must end by then too.
        """
        key = _carried(headers)
        key_hash = self._hasher.hash(key)
        known = self._known.get(key_hash)
        known = await (self._meet(key, key_hash, address) if known is None else self._find(key, key_hash, known))
        caller = _permitted(known, address, scope)
        self._uses.note(caller.id)
        if known is not None and known.until is not None:
            caller = replace(caller, expires_at=min(known.until, caller.expires_at or known.until))
        return caller

    def forget(self, changed_id: str) -> None:
        """Drop a changed key, or the keys of a changed project, from the cache."""
        self._changes += 1
        stale = [
            key_hash for key_hash, known in self._known.items() if changed_id in (known.key.id, known.key.project_id)
        ]
        for key_hash in stale:
            del self._known[key_hash]

    async def _meet(self, key: str, key_hash: bytes, address: str | None) -> _Known | None:
        """Look up a key that is not cached; None where there is none. Raises ThrottledError before any query.

        A key that was refused a moment ago costs its address nothing: a client that repeats one wrong key is no flood.
        """
        refused_at = self._refused.get(key_hash)
        if refused_at is not None and time.monotonic() - refused_at < self._cache_seconds:
            return None
        self._throttle.check(address)
        known = await self._find(key, key_hash, None) if is_well_formed(key) else None
        if known is None:
            self._throttle.count(address)
            self._refused[key_hash] = time.monotonic()
            self._refused.move_to_end(key_hash)
            if len(self._refused) > _CACHED_REFUSALS:
                self._refused.popitem(last=False)
        return known

    async def _find(self, key: str, key_hash: bytes, known: _Known | None) -> _Known | None:
        """Look the key up and cache it; while the database is down a key read within the last minute is returned."""
        now = time.monotonic()
        changes = self._changes
        may_be_stale = known is not None and now - known.read_at < _STALE_SECONDS
        try:
            # A database that hangs must leave time for the rest of the call.
            with self._patience.block() if may_be_stale else nullcontext():
                found = await self._look_up(key, key_hash)
            networks = tuple(map(read_network, found.key.policy.addresses)) if found else ()
        except Exception as error:
            if known is not None and may_be_stale and isinstance(error, StorageError | TimeoutError):
                return known
            if isinstance(error, StorageError):
                raise
            # Fail closed: whatever broke, no caller was identified.
            raise StorageError("API keys cannot be checked now. Try again in a moment.") from error
        if found is None:
            self._known.pop(key_hash, None)
            return None
        read = _Known(found.key, found.until, networks, now)
        # The key may have changed while it was read: the result serves this call, and is not cached.
        if changes == self._changes:
            self._known[key_hash] = read
            self._known.move_to_end(key_hash)
            if len(self._known) > _CACHED_KEYS:
                self._known.popitem(last=False)
        return read

    async def _look_up(self, key: str, key_hash: bytes) -> FoundKey | None:
        found = await self._keys.find(key_hash)
        if found is not None:
            return found
        # Old hashes stay as they are: no hash gives a key of 190 random bits away, whichever secret keys it (ADR 34).
        for other in self._hasher.other_hashes(key):
            if (found := await self._keys.find(other)) is not None:
                return found
        return None


def _permitted(known: _Known | None, address: str | None, scope: Scope) -> ApiKey:
    """Check whether this key may act now, from here, on this: the one policy of every surface and carrier."""
    if known is None or known.key.revoked_at is not None or known.key.blocked_at is not None:
        raise AuthenticationError(_INCORRECT, code="invalid_api_key")
    key = known.key
    if known.until is not None and time.time() >= known.until:
        raise AuthenticationError(_INCORRECT, code="invalid_api_key")
    if key.expires_at is not None and time.time() >= key.expires_at:
        raise AuthenticationError(_EXPIRED, code="invalid_api_key")
    if known.networks and not _is_within(address, known.networks):
        raise PermissionDeniedError(_ELSEWHERE, code="ip_not_authorized")
    if not has_scope(key.policy.scopes, scope):
        raise PermissionDeniedError(
            f"You have insufficient permissions for this operation. Missing scopes: {scope}. "
            "Ask the operator of this gateway for a key that has them."
        )
    return key


def _is_within(address: str | None, networks: Sequence[Network]) -> bool:
    came_from = read_address(address or "")
    return came_from is not None and any(came_from in network for network in networks)


def _carried(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, rest = authorization.partition(" ")
        key = rest.strip()
        if not key or scheme.lower() != "bearer":
            raise AuthenticationError(_MISSING)
        return key
    carried = headers.get("x-api-key") or headers.get("api-key")
    if not carried:
        raise AuthenticationError(_MISSING)
    return carried
