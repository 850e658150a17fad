"""Where an upstream may be that an administrator makes. Must not know how it is called."""

import asyncio
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from app.errors import InvalidRequestError

# What clouds tell each machine about itself, its credentials among it.
_METADATA = frozenset({"metadata.google.internal", "169.254.169.254", "100.100.100.200", "fd00:ec2::254"})
_RESOLVED_WITHIN_SECONDS = 5.0


async def check_address(url: str, *, allow_private: bool) -> None:
    """Raise InvalidRequestError for a URL that leads into this machine or its own network.

    A name is looked up once, here; one that cannot be is taken, as it may be for a proxy to look up. Addresses of cloud
    metadata, and others of the link alone, are refused also where private ones are allowed.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host in _METADATA:
        raise _refused("leads to the metadata of a cloud")
    for address in await _addresses(host):
        if address.is_link_local or address.is_multicast or address.is_unspecified or str(address) in _METADATA:
            raise _refused("leads to an address that no upstream has")
        if not address.is_global and not allow_private:
            raise _refused(
                "leads into a private network or to this machine; the operator can allow that with the setting "
                "allow_private_upstreams"
            )


async def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    # An address in any notation is one of its own.
    with suppress(OSError, UnicodeError, TimeoutError):
        async with asyncio.timeout(_RESOLVED_WITHIN_SECONDS):
            entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [_plain(str(entry[4][0])) for entry in entries]
    return []


def _plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _refused(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid 'base_url': it {reason}.", code="invalid_value", param="base_url")
