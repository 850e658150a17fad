"""Make the accounts of an upstream, one for each of its keys, and redact the key from what upstream sends."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import SecretStr

from app.settings.upstreams import SURFACES, KeySettings, Surface, UpstreamSettings
from app.state.items.compacted import sealed_for

_DIGEST_DIGITS = 12
_BEARER = "Bearer "
# A shorter secret is a placeholder for servers that take any ("none", "ollama"), and may be a part of other words.
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Account:
    """Identify an upstream with one of its keys by a `name` that is stable across restarts, and stored with its turns.

    `authorization` is the header's value; None for an upstream that takes no key. `tier` is the key's own, else its
    upstream's, else the upstream's position. `key` has the key's other settings.
    """

    name: str
    upstream: UpstreamSettings = field(repr=False, hash=False)
    authorization: SecretStr | None = field(repr=False)
    key: KeySettings | None = field(default=None, repr=False, hash=False)
    tier: int = 0
    # What is bound to one of these can be read: by any account, by this one, or as it was sealed for its upstream.
    reads: frozenset[str | None] = field(init=False, repr=False, compare=False)
    # What upstream may quote of the key; empty where there is nothing to redact.
    secret: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make once what every call asks for."""
        sealed = (sealed_for(self.name), sealed_for(None)) if self.upstream.is_translated else ()
        object.__setattr__(self, "reads", frozenset({None, self.name, *sealed}))
        if self.authorization is not None:
            secret = self.authorization.get_secret_value().removeprefix(_BEARER)
            if len(secret) >= _SHORTEST_SECRET:
                object.__setattr__(self, "secret", secret.encode())

    def redacted(self, text: bytes) -> bytes:
        """Redact this account's key in a text: some upstreams quote it in their errors."""
        return text.replace(self.secret, b"[redacted]") if self.secret else text

    def redacted_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Drop the headers from upstream that quote this account's key."""
        return [header for header in headers if not self.secret or self.secret not in header[1]]


def accounts_of(upstream: UpstreamSettings, place: int = 0) -> Iterator[Account]:
    """Make an upstream's accounts, in the order of its keys; `{upstream}/none` alone when it has no keys.

    `place` is the upstream's position among all, from 0, which is its tier unless its settings name one.
    """
    tier = place if upstream.tier is None else upstream.tier
    if not upstream.keys:
        yield Account(f"{upstream.name}/none", upstream, None, tier=tier)
    for key in upstream.keys:
        secret = key.secret.get_secret_value()
        yield Account(
            account_name(upstream.name, secret),
            upstream,
            SecretStr(f"{_BEARER}{secret}"),
            key,
            tier if key.tier is None else key.tier,
        )


def account_name(upstream: str, secret: str) -> str:
    """Name the account of an upstream and a key: the upstream's name and a digest of the key."""
    return f"{upstream}/{hashlib.sha256(secret.encode()).hexdigest()[:_DIGEST_DIGITS]}"


def accounts_of_all(upstreams: Iterable[UpstreamSettings]) -> list[Account]:
    """Make the accounts of several upstreams, in their order."""
    return [account for place, upstream in enumerate(upstreams) for account in accounts_of(upstream, place)]


def upstream_name(account: str) -> str:
    """Return the upstream's part of an account's name."""
    return account.partition("/")[0]


def are_strict(upstreams: Iterable[UpstreamSettings], model: str | None = None) -> bool:
    """Tell whether every upstream that may serve the model (or any model) holds OpenAI's own rules."""
    return all(upstream.is_strict for upstream in upstreams if model is None or serves(upstream, model))


def surface_of(endpoint: str) -> Surface:
    """Return the surface that a call of this kind is made on: what is done with responses is one of theirs."""
    return next((surface for surface in SURFACES if surface == endpoint), "responses")


def serves(upstream: UpstreamSettings, model: str, surface: Surface = "responses") -> bool:
    """Tell whether the model matches one of the upstream's globs, and the upstream has this surface."""
    has_surface = upstream.serves is None or surface in upstream.serves
    return has_surface and any(fnmatchcase(model, glob) for glob in upstream.models)
