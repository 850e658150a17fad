"""Who is calling: the form of our API keys, and the caller that a key names."""

import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import AuthenticationError, StorageError
from app.state.records import ApiKey
from app.storage.key_store import KeyStore

_PREFIX = "sk-aph_"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 32
_CHECKSUM_LENGTH = 6
_CACHED_KEYS = 10_000
_STALE_SECONDS = 60.0

_MISSING = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)
_INCORRECT = "Incorrect API key provided. Ask the operator of this gateway for a key of your own."


def mint_key() -> str:
    """A new API key: `sk-aph_`, 32 random base62 characters (190 bits), 6 of checksum."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_LENGTH))
    return f"{_PREFIX}{secret}{_checksum(secret)}"


def is_well_formed(key: str) -> bool:
    """Whether this could be a key of ours. A typing error or a made-up key is refused here, without a query."""
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
    """Keyed hashes of API keys: a copy of the database is of no use without the gateway's secret."""

    def __init__(self, secret: bytes) -> None:
        self._pepper = hmac.digest(secret, b"antiphon api keys v1", hashlib.sha256)

    def hash(self, key: str) -> bytes:
        """The 32 bytes under which this key is stored."""
        return hmac.digest(self._pepper, key.encode(), hashlib.sha256)

    @property
    def fingerprint(self) -> str:
        """Tells secrets apart without giving one away; kept in the database to catch a changed secret at start."""
        return hmac.digest(self._pepper, b"fingerprint", hashlib.sha256).hex()[:16]


@dataclass(slots=True)
class _Known:
    key: ApiKey | None
    read_at: float


class Authenticator:
    """Turns a request's headers into the API key record that acts.

    Invariant: fails closed. Every way out is a record that was read as valid, AuthenticationError or StorageError.
    A revocation by another process is seen after `cache_seconds`; while the database is down a key read within the last
    minute still serves.
    """

    def __init__(self, keys: KeyStore, hasher: KeyHasher, cache_seconds: float) -> None:
        self._keys = keys
        self._hasher = hasher
        self._cache_seconds = cache_seconds
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def identify(self, headers: Mapping[str, str]) -> ApiKey:
        """The caller's key. The bearer header comes first; `x-api-key` and `api-key` carry the same."""
        key = _carried(headers)
        key_hash = self._hasher.hash(key)
        known = self._known.get(key_hash)
        if known is None and not is_well_formed(key):
            raise AuthenticationError(_INCORRECT, code="invalid_api_key")
        if known is not None and time.monotonic() - known.read_at < self._cache_seconds:
            found = known.key
        else:
            found = await self._find(key_hash, known)
        if found is None or found.revoked_at is not None:
            raise AuthenticationError(_INCORRECT, code="invalid_api_key")
        return found

    async def _find(self, key_hash: bytes, known: _Known | None) -> ApiKey | None:
        now = time.monotonic()
        try:
            key = await self._keys.find(key_hash)
        except StorageError:
            if known is not None and now - known.read_at < _STALE_SECONDS:
                return known.key
            raise
        except Exception as error:
            # Fails closed: whatever broke, nobody was identified.
            raise StorageError("API keys cannot be checked now. Try again in a moment.") from error
        self._known[key_hash] = _Known(key, now)
        self._known.move_to_end(key_hash)
        if len(self._known) > _CACHED_KEYS:
            self._known.popitem(last=False)
        return key


def _carried(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise AuthenticationError(_MISSING)
        return key.strip()
    carried = headers.get("x-api-key") or headers.get("api-key")
    if not carried:
        raise AuthenticationError(_MISSING)
    return carried
