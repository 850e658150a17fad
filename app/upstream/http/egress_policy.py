"""Refuse connections to addresses that an upstream may not have: cloud metadata, link-local, private networks."""

import enum
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

# Clouds serve a machine's metadata here, credentials included. One of Azure's addresses looks like any other.
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal"})
_METADATA = frozenset(
    map(
        ip_address,
        ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
# These networks embed an IPv4 address in the last 32 bits: mapped, compatible, translated, NAT64.
_EMBEDDING = tuple(map(IPv6Network, ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_LAST_32_BITS = 0xFFFF_FFFF
# Not global, which not every Python knows: local-use NAT64, and site-local addresses.
_INSIDE = tuple(map(IPv6Network, ("64:ff9b:1::/48", "fec0::/10")))


class EgressDeniedError(httpx.ConnectError):
    """Deny a connection by the egress policy. The text says why, to administrators, without names and addresses.

    The text completes a sentence about the URL that leads there.
    """


class EgressPolicy(enum.Enum):
    """Allow or deny the addresses that an upstream may have.

    Cloud metadata, link-local, multicast and unspecified addresses are denied, except by ANYWHERE.
    """

    ANYWHERE = enum.auto()  # whatever the operator configures
    INSIDE = enum.auto()  # also in a private network or on this machine
    OUTSIDE = enum.auto()

    @classmethod
    def of_administrators(cls, *, allow_private: bool) -> "EgressPolicy":
        """Return the policy for upstreams of administrators, by the setting allow_private_upstreams."""
        return cls.INSIDE if allow_private else cls.OUTSIDE

    def check_host(self, host: str) -> None:
        """Raise EgressDeniedError for a URL's host that is a denied address, in any notation: 2130706433, 0x7f.1.

        A name is checked by its addresses later, but for the names that clouds give to their metadata.
        """
        if self is EgressPolicy.ANYWHERE:
            return
        plain = host.partition("%")[0].rstrip(".").lower()
        if plain in _METADATA_NAMES:
            raise EgressDeniedError("leads to the metadata of a cloud")
        with suppress(OSError, UnicodeError):
            for *_, address in socket.getaddrinfo(plain, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST):
                self.check(str(address[0]))

    def check(self, address: str) -> None:
        """Raise EgressDeniedError for a denied address, in plain notation, before it is connected to."""
        if self is EgressPolicy.ANYWHERE:
            return
        effective = _embedded_ipv4(ip_address(address.partition("%")[0]))
        if effective in _METADATA:
            raise EgressDeniedError("leads to the metadata of a cloud")
        if effective.is_link_local or effective.is_multicast or effective.is_unspecified:
            raise EgressDeniedError("leads to an address that no upstream has")
        if self is EgressPolicy.OUTSIDE and not _is_outside(effective):
            raise EgressDeniedError(
                "leads into a private network or to this machine; the operator can allow that with the setting "
                "allow_private_upstreams"
            )


def _embedded_ipv4(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address embeds, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & _LAST_32_BITS)
    return address.sixtofour or address


def _is_outside(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not any(address in inside for inside in _INSIDE)
