"""The keys there are, without a database, and a clock that goes when it is told to."""

from typing import Any

from app.security.authentication import Authenticator, KeyHasher
from app.security.failed_key_throttle import Throttle
from app.security.key_ring import KeyRing
from app.state.records import ApiKey
from app.storage.keys.last_used import LastUsed
from app.storage.keys.store import FoundKey
from tests.builders import NOW

KEY = "sk-aph_Ep10Lfej9i4IWVSwLF5W7RXM7llcUMDo49Yt9X"
HASHER = KeyHasher(KeyRing(b"a secret of sixteen characters and more"))
ADDRESS = "192.0.2.7"
CACHE_SECONDS = 5.0


def bearer(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return NOW + self.now


class Keys:
    """The keys there are, by hash, behind a database that may fail."""

    def __init__(self, found: ApiKey | None = None) -> None:
        self.found: dict[bytes, ApiKey | None] = {HASHER.hash(KEY): found}
        self.until: int | None = None
        self.error: Exception | None = None
        self.queries = 0

    async def find(self, key_hash: bytes) -> FoundKey | None:
        self.queries += 1
        if self.error is not None:
            raise self.error
        key = self.found.get(key_hash)
        return None if key is None else FoundKey(key, self.until)


def authenticator_of(keys: Keys, hasher: KeyHasher = HASHER, failed_keys_per_minute: int = 60) -> Authenticator:
    store: Any = keys
    return Authenticator(store, hasher, LastUsed(store), CACHE_SECONDS, Throttle(failed_keys_per_minute))
