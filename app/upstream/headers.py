"""The headers that cross the gateway, both ways: built from nothing, by allow-list. Must not know what they go with."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import httpx

from app import __version__
from app.upstream.account import Account
from app.upstream.transport import RawHeaders

FROM_CLIENT = ("openai-beta", "x-client-request-id")
"""The client's headers that upstream is sent, too."""
_MAX_FROM_CLIENT = 512
_ENCODING = b"content-encoding"
_UNENCODED = b"identity"
# By the name that upstream gives them, the name that the client sees. Of the encoding it hears nothing.
_TO_CLIENT = {
    _ENCODING: _ENCODING,
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


def request_headers(account: Account, *, stream: bool) -> httpx.Headers:
    """What upstream is sent in this account's name, whatever the call."""
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        # An encoded stream could not be relayed frame by frame.
        "accept-encoding": "identity",
        "user-agent": f"antiphon/{__version__}",
    }
    if account.authorization is not None:
        headers["authorization"] = account.authorization.get_secret_value()
    if account.key is not None and account.key.organization is not None:
        headers["openai-organization"] = account.key.organization
    if account.key is not None and account.key.project is not None:
        headers["openai-project"] = account.key.project
    return httpx.Headers(headers)


def client_headers(client: Mapping[str, str]) -> RawHeaders:
    """Those of the client's headers, given by lower-case name, that upstream is sent beside ours."""
    chosen: RawHeaders = []
    for name in FROM_CLIENT:
        value = client.get(name)
        if value and len(value) <= _MAX_FROM_CLIENT and value.isascii() and value.isprintable():
            chosen.append((name.encode("ascii"), value.encode("ascii")))
    return chosen


def answer_headers(upstream: Iterable[tuple[bytes, bytes]], secret: bytes = b"") -> tuple[dict[bytes, bytes], bool]:
    """What the client may see of upstream's headers, by lower-case name, and whether they say that the body is encoded.

    Unsafe values, repetitions and what quotes this secret are dropped.
    """
    allowed: dict[bytes, bytes] = {}
    is_encoded = False
    for name, value in upstream:
        shown = _shown(name)
        if shown is None:
            continue
        if shown is _ENCODING:
            is_encoded |= value.lower() != _UNENCODED
        elif shown not in allowed and not (secret and secret in value) and value.decode("latin-1").isprintable():
            allowed[shown] = value
    return allowed, is_encoded


def as_text(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """The same headers as text."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


@lru_cache(_NAMES_REMEMBERED)
def _shown(name: bytes) -> bytes | None:
    """The name under which the client sees a header of upstream's, or that of the encoding; None for all others."""
    lowered = name.lower()
    return lowered if lowered.startswith(_RATE_LIMITS) else _TO_CLIENT.get(lowered)
