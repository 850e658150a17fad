"""Check the address of an administrator's upstream against the egress policy, when it is written."""

import asyncio
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from app.errors import InvalidRequestError
from app.upstream.http.egress_policy import EgressDeniedError, EgressPolicy

_RESOLVED_WITHIN_SECONDS = 5.0


async def check_address(url: str, egress_policy: EgressPolicy) -> None:
    """Raise InvalidRequestError for a URL whose address the egress policy denies.

    A name that cannot be resolved passes, as a proxy may resolve it. The HTTP client checks the address again when it
    connects.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        egress_policy.check_host(host)
        for address in await _addresses(host):
            egress_policy.check(address)
    except EgressDeniedError as error:
        raise InvalidRequestError(f"Invalid 'base_url': it {error}.", code="invalid_value", param="base_url") from None


async def _addresses(host: str) -> list[str]:
    with suppress(OSError, UnicodeError, TimeoutError):
        async with asyncio.timeout(_RESOLVED_WITHIN_SECONDS):
            entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in entries]
    return []
