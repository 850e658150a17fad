"""The headers that cross the gateway, both ways: built from nothing, by allow-list. Must not know what they go with."""

from collections.abc import Mapping

from app import __version__
from app.upstream.account import Account

_FROM_CLIENT = ("openai-beta", "x-client-request-id")
_MAX_FROM_CLIENT = 512
_TO_CLIENT = frozenset(
    {"content-type", "openai-processing-ms", "openai-version", "retry-after", "retry-after-ms", "x-request-id"}
)
_RENAMED = {"x-request-id": "x-upstream-request-id"}
_RATE_LIMITS = "x-ratelimit-"


def request_headers(account: Account, client: Mapping[str, str], *, stream: bool) -> dict[str, str]:
    """What upstream is sent. `client` holds the client's headers, by lower-case name; two of them pass."""
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        # An encoded stream could not be relayed frame by frame.
        "accept-encoding": "identity",
        "user-agent": f"antiphon/{__version__}",
    }
    for name in _FROM_CLIENT:
        value = client.get(name, "")
        if value and len(value) <= _MAX_FROM_CLIENT and value.isascii() and value.isprintable():
            headers[name] = value
    if account.authorization is not None:
        headers["authorization"] = account.authorization.get_secret_value()
    return headers


def answer_headers(upstream: Mapping[str, str]) -> dict[str, str]:
    """What the client may see of upstream's headers, by lower-case name; unsafe values are dropped."""
    allowed = {}
    for raw_name, value in upstream.items():
        name = raw_name.lower()
        if (name in _TO_CLIENT or name.startswith(_RATE_LIMITS)) and _is_safe(value):
            allowed[_RENAMED.get(name, name)] = value
    return allowed


def _is_safe(value: str) -> bool:
    return value.isprintable() and all(ord(character) < 256 for character in value)  # noqa: PLR2004 - latin-1
