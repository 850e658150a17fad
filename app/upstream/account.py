"""An account: one upstream reached with one of its keys. Must not know whether it is in use or resting."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import SecretStr

from app.settings_upstream import KeySettings, UpstreamSettings

_DIGEST_DIGITS = 12
_BEARER = "Bearer "
# A shorter one is a placeholder for servers that take any ("none", "ollama"), and may be a part of other words.
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Account:
    """One upstream and one key. `name` is stable across restarts: it is stored with what the account produced.

    `authorization` is the header's value; None for an upstream that takes no key. `tier` is the account's own, its
    upstream's or its upstream's place; `key` says what else is known of the key.
    """

    name: str
    upstream: UpstreamSettings = field(repr=False, hash=False)
    authorization: SecretStr | None = field(repr=False)
    key: KeySettings | None = field(default=None, repr=False, hash=False)
    tier: int = 0
    # What its upstream may quote; empty where there is nothing to hide.
    secret: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the secret once: every answer is looked through for it."""
        if self.authorization is not None:
            secret = self.authorization.get_secret_value().removeprefix(_BEARER)
            if len(secret) >= _SHORTEST_SECRET:
                object.__setattr__(self, "secret", secret.encode())

    def blanked(self, text: bytes) -> bytes:
        """The text without this account's key: some upstreams quote it in their errors."""
        return text.replace(self.secret, b"[redacted]") if self.secret else text

    def unquoted(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """These headers of upstream's without those that quote this account's key."""
        return [header for header in headers if not self.secret or self.secret not in header[1]]


def accounts_of(upstream: UpstreamSettings, place: int = 0) -> Iterator[Account]:
    """The upstream's accounts, in the order of its keys; a single one, `{upstream}/none`, when it has no keys.

    `place` is the upstream's among all, from 0: its tier unless it says another.
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
    """The name of the account that this key makes of the upstream of this name."""
    return f"{upstream}/{hashlib.sha256(secret.encode()).hexdigest()[:_DIGEST_DIGITS]}"


def accounts_of_all(upstreams: Iterable[UpstreamSettings]) -> list[Account]:
    """The accounts of these upstreams, in their order."""
    return [account for place, upstream in enumerate(upstreams) for account in accounts_of(upstream, place)]


def upstream_name(account: str) -> str:
    """The upstream's part of an account's name."""
    return account.partition("/")[0]


def are_strict(upstreams: Iterable[UpstreamSettings], model: str | None = None) -> bool:
    """Whether OpenAI's own rules hold for a call of this model, or of any: all that may serve it have them."""
    return all(upstream.is_strict for upstream in upstreams if model is None or serves(upstream, model))


def serves(upstream: UpstreamSettings, model: str) -> bool:
    """Whether the model matches one of the upstream's globs."""
    return any(fnmatchcase(model, glob) for glob in upstream.models)
