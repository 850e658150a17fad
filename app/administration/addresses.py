"""Where an upstream may be that an administrator makes, said when it is made. Must not know how it is called."""

import asyncio
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from app.errors import InvalidRequestError
from app.upstream.reach import OutOfReachError, Reach

_RESOLVED_WITHIN_SECONDS = 5.0


async def check_address(url: str, reach: Reach) -> None:
    """Raise InvalidRequestError for a URL that leads out of reach now.

    A name that cannot be looked up is taken, as it may be for a proxy to look up. What it leads to later is checked
    again by whoever connects to it.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        reach.check_host(host)
        for address in await _addresses(host):
            reach.check(address)
    except OutOfReachError as error:
        raise InvalidRequestError(f"Invalid 'base_url': it {error}.", code="invalid_value", param="base_url") from None


async def _addresses(host: str) -> list[str]:
    with suppress(OSError, UnicodeError, TimeoutError):
        async with asyncio.timeout(_RESOLVED_WITHIN_SECONDS):
            entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in entries]
    return []
