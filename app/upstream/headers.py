"""The headers that cross the gateway, both ways: built from nothing, by allow-list. Must not know what they go with."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import httpx

from app import __version__
from app.upstream.account import Account

FROM_CLIENT = ("openai-beta", "x-client-request-id")
"""The client's headers that upstream is sent, too."""
_MAX_FROM_CLIENT = 512
# By the name that upstream gives them, the name that the client sees.
_TO_CLIENT = {
    b"content-type": b"content-type",
    b"openai-processing-ms": b"openai-processing-ms",
    b"openai-version": b"openai-version",
    b"retry-after": b"retry-after",
    b"retry-after-ms": b"retry-after-ms",
    b"x-request-id": b"x-upstream-request-id",
}
# An upstream sends much the same names with each answer.
_NAMES_REMEMBERED = 128
_RATE_LIMITS = b"x-ratelimit-"
# What latin-1 can print.
_SAFE = re.compile(rb"[\x20-\x7e\xa1-\xac\xae-\xff]*")
_UNENCODED = frozenset({b"identity"})


class RequestHeaders:
    """What upstream is sent in an account's name. It never changes, but for two headers of the client's."""

    def __init__(self, account: Account) -> None:
        constant = {
            "content-type": "application/json",
            # An encoded stream could not be relayed frame by frame.
            "accept-encoding": "identity",
            "user-agent": f"antiphon/{__version__}",
        }
        if account.authorization is not None:
            constant["authorization"] = account.authorization.get_secret_value()
        if account.key is not None and account.key.organization is not None:
            constant["openai-organization"] = account.key.organization
        if account.key is not None and account.key.project is not None:
            constant["openai-project"] = account.key.project
        self._whole = httpx.Headers({**constant, "accept": "application/json"})
        self._stream = httpx.Headers({**constant, "accept": "text/event-stream"})

    def beside(self, client: Mapping[str, str], *, stream: bool) -> httpx.Headers:
        """The headers of one call, not to be changed. `client` holds the client's headers, by lower-case name."""
        constant = headers = self._stream if stream else self._whole
        for name in FROM_CLIENT:
            value = client.get(name, "")
            if 0 < len(value) <= _MAX_FROM_CLIENT and value.isascii() and value.isprintable():
                headers = httpx.Headers(constant) if headers is constant else headers
                headers[name] = value
        return headers


def answer_headers(upstream: Iterable[tuple[bytes, bytes]], secret: bytes = b"") -> dict[bytes, bytes]:
    """What the client may see of upstream's headers, by lower-case name.

    Unsafe values, repetitions and what quotes this secret are dropped.
    """
    allowed: dict[bytes, bytes] = {}
    for name, value in upstream:
        shown = _shown(name)
        if shown is None or shown in allowed or (secret and secret in value):
            continue
        if _SAFE.fullmatch(value):
            allowed[shown] = value
    return allowed


def as_text(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """The same headers as text."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


def is_encoded(upstream: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the body is compressed, say, in spite of what was asked for."""
    encodings = {value.lower() for name, value in upstream if name.lower() == b"content-encoding"}
    return not encodings <= _UNENCODED


@lru_cache(_NAMES_REMEMBERED)
def _shown(name: bytes) -> bytes | None:
    """The name under which the client sees a header of upstream's; None when it does not."""
    lowered = name.lower()
    return lowered if lowered.startswith(_RATE_LIMITS) else _TO_CLIENT.get(lowered)
