"""Build the headers of upstream requests and client answers from nothing, by allow-list."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import httpx

from app import __version__
from app.upstream.account import Account
from app.upstream.transport import RawHeaders

FROM_CLIENT = ("openai-beta", "x-client-request-id")
"""The client's headers that are passed on to upstream."""
DROPPED = b"x-antiphon-dropped"
"""The client's header with the names of what a translation left out. It is ours: an upstream's own is not passed on."""

_MAX_FROM_CLIENT = 512
_ENCODING = b"content-encoding"
_UNENCODED = b"identity"
# Upstream's name of a header, and the name that the client sees. The encoding is read and not passed on.
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
    """Build the headers of every request that is sent with this account: its key, its organization and project."""
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
    """Select the headers of a client, given by lower-case name, that upstream is sent beside ours."""
    chosen: RawHeaders = []
    for name in FROM_CLIENT:
        value = client.get(name)
        if value and len(value) <= _MAX_FROM_CLIENT and value.isascii() and value.isprintable():
            chosen.append((name.encode("ascii"), value.encode("ascii")))
    return chosen


def answer_headers(upstream: Iterable[tuple[bytes, bytes]], secret: bytes = b"") -> tuple[dict[bytes, bytes], bool]:
    """Select the headers of upstream that a client may see, by lower-case name; tell if the body is encoded.

    Unsafe values, repetitions and values that quote this secret are dropped.
    """
    allowed: dict[bytes, bytes] = {}
    is_encoded = False
    for name, value in upstream:
        shown = _shown(name)
        if shown is None:
            continue
        if shown is _ENCODING:
            is_encoded |= value.lower() != _UNENCODED
        elif shown not in allowed and (not secret or value.find(secret) < 0) and value.decode("latin-1").isprintable():
            allowed[shown] = value
    return allowed, is_encoded


def as_text(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Decode header names and values to text."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


@lru_cache(_NAMES_REMEMBERED)
def _shown(name: bytes) -> bytes | None:
    """Return the name under which the client sees a header of upstream, or the encoding's; None for all others."""
    lowered = name.lower()
    return lowered if lowered.startswith(_RATE_LIMITS) else _TO_CLIENT.get(lowered)
