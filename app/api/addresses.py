"""Whence a call comes: the socket's address, or what trusted proxies say. Must not know who may come from where."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

# One element of Forwarded (RFC 7239): for=192.0.2.43, for="[2001:db8::1]:4711".
_FOR = re.compile(r"(?i:(?:^|;)\s*for=)\"?([^\";\s]+)")
_PORT = re.compile(r"^(?:\[(.+)\]|([0-9.]+))(?::\d+)?$")

_Address = IPv4Address | IPv6Address


class Addresses:
    """The addresses of clients. `trusted_proxies` are networks whose word is taken for whom they pass on."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [ip_network(network) for network in trusted_proxies]

    def of(self, scope: Scope) -> str | None:
        """The client's address; None where the socket has none.

        Behind trusted proxies it is the nearest hop that is not one of them. What a client sends itself stands to the
        left of that, and is never reached. Where X-Forwarded-For and Forwarded disagree, neither is believed: only one
        of them is the proxy's.
        """
        client = scope.get("client")
        if client is None:
            return None
        host: str = client[0]
        nearest = _parsed(host) if self._trusted else None
        if nearest is None:
            return host
        if not self._is_trusted(nearest):
            return str(nearest)
        told = {self._nearest(hops) for hops in (_forwarded_for(scope), _forwarded(scope)) if hops}
        return str(told.pop() or nearest) if len(told) == 1 else str(nearest)

    def _nearest(self, hops: Sequence[str]) -> _Address | None:
        """The right-most of these that is no trusted proxy, or the last that can be read."""
        nearest = None
        for hop in reversed(hops):
            address = _parsed(hop)
            if address is None:
                break
            nearest = address
            if not self._is_trusted(address):
                break
        return nearest

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded_for(scope: Scope) -> Sequence[str]:
    return [hop.strip() for hop in _elements(scope, b"x-forwarded-for")]


def _forwarded(scope: Scope) -> Sequence[str]:
    found = (_FOR.search(element) for element in _elements(scope, b"forwarded"))
    return [match[1] if match else "" for match in found]


def _elements(scope: Scope, name: bytes) -> Iterator[str]:
    for header, value in scope["headers"]:
        if header == name:
            yield from value.decode("latin-1").split(",")


def _parsed(host: str) -> _Address | None:
    """The address in a host with or without a port; an IPv4 address that is written as IPv6 is IPv4."""
    match = _PORT.match(host)
    try:
        address = ip_address((match[1] or match[2]) if match else host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
