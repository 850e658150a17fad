"""Identify a request with an idempotency key, and describe the first call under that key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")

RawHeader = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """Identify a repeat by caller, a hash of its key (`name`), and a hash of key and request (`fingerprint`).

    The key itself is stored nowhere, so that nobody can check guesses of a body that was not to be kept.
    """

    project_id: str
    api_key_id: str
    name: str
    fingerprint: bytes


@dataclass(slots=True)
class Fingerprint:
    """Hash the request with this key and target (path and query) once its body is read."""

    key: str
    target: bytes
    body: bytes = field(default=b"", init=False)

    def of(self, parse: Callable[[bytes, int], T]) -> Callable[[bytes, int], T]:
        """Wrap a parser so that it also hashes the body."""

        def parse_hashed(body: bytes, max_depth: int) -> T:
            self.body = sha256(body).digest()
            return parse(body, max_depth)

        return parse_hashed

    def request(self, project_id: str, api_key_id: str) -> KeyedRequest:
        """Return the keyed request that was read, by this caller."""
        key = self.key.encode(errors="surrogatepass")
        hashed = sha256(b"%d:%b%d:%b%b" % (len(key), key, len(self.target), self.target, self.body))
        return KeyedRequest(project_id, api_key_id, sha256(key).hexdigest(), hashed.digest())


@dataclass(frozen=True, slots=True)
class Answer:
    """Keep an answer, with the id of the response or conversation that it shows.

    Without a body the answer is not kept. One that `is_logged` is the event log of the background run of that id.
    """

    status: int
    headers: Sequence[RawHeader] = ()
    body: bytes | None = None
    object_id: str | None = None
    is_logged: bool = False


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """Describe the first call under a key. While it runs it has an `owner`, and afterwards a `status`."""

    key: int
    fingerprint: bytes
    owner: str | None
    status: int | None
    headers: Sequence[RawHeader]
    object_id: str | None
    is_logged: bool
    is_kept: bool
