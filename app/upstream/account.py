"""An account: one upstream reached with one of its keys. Must not know whether it is in use or resting."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import SecretStr

from app.settings import UpstreamSettings

_DIGEST_DIGITS = 12
_BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class Account:
    """One upstream and one key. `name` is stable across restarts: it is stored with what the account produced.

    `authorization` is the header's value; None for an upstream that takes no key.
    """

    name: str
    upstream: UpstreamSettings = field(repr=False)
    authorization: SecretStr | None = field(repr=False)

    def blanked(self, text: bytes) -> bytes:
        """The text without this account's key: some upstreams quote it in their errors."""
        if self.authorization is None:
            return text
        return text.replace(self.authorization.get_secret_value().removeprefix(_BEARER).encode(), b"[redacted]")


def accounts_of(upstream: UpstreamSettings) -> Iterator[Account]:
    """The upstream's accounts, in the order of its keys; a single one, `{upstream}/none`, when it has no keys."""
    if not upstream.keys:
        yield Account(f"{upstream.name}/none", upstream, None)
    for key in upstream.keys:
        secret = key.get_secret_value()
        digest = hashlib.sha256(secret.encode()).hexdigest()[:_DIGEST_DIGITS]
        yield Account(f"{upstream.name}/{digest}", upstream, SecretStr(f"{_BEARER}{secret}"))


def upstream_name(account: str) -> str:
    """The upstream's part of an account's name."""
    return account.partition("/")[0]


def serves(upstream: UpstreamSettings, model: str) -> bool:
    """Whether the model matches one of the upstream's globs."""
    return any(fnmatchcase(model, glob) for glob in upstream.models)
