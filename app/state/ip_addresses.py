"""Read IP addresses and networks into one form each, so that two spellings of one address are equal.

An IPv4 address or network that is written as IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is the IPv4 one, as a socket
on `::` shows its IPv4 clients in that form. A zone (`fe80::1%eth0`, RFC 4007 §11) is dropped.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


def read_address(text: str) -> Address | None:
    """Parse an IP address without a port; None for any other text."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def read_network(text: str, *, strict: bool = True) -> Network:
    """Parse an IP network. Raises ValueError, when `strict` also for one with host bits."""
    network = ip_network(text, strict=strict)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network
