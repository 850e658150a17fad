"""Which addresses an upstream may have. Must not know how a name is looked up, nor who asks."""

import enum
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

# What clouds tell each machine about itself, its credentials among it. One of Azure's addresses looks like any other.
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal"})
_METADATA = frozenset(
    map(
        ip_address,
        ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
# An address in one of them leads to the IPv4 address in its last 32 bits: mapped, compatible, translated, NAT64.
_CARRYING = tuple(map(IPv6Network, ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_LAST_32_BITS = 0xFFFF_FFFF
# Not every Python knows that nobody outside has them: NAT64 of one's own, and addresses of a site.
_INSIDE = tuple(map(IPv6Network, ("64:ff9b:1::/48", "fec0::/10")))


class OutOfReachError(httpx.ConnectError):
    """No connection is made to this address. The text says why, to administrators, and quotes neither name nor address.

    It completes a sentence about what leads there.
    """


class Reach(enum.Enum):
    """How far it is to an upstream at most.

    Nothing is at cloud metadata, at addresses of the link alone, of many at once or of nobody, unless it is ANYWHERE.
    """

    ANYWHERE = enum.auto()  # where the operator says
    INSIDE = enum.auto()  # in a private network or on this machine too
    OUTSIDE = enum.auto()

    @classmethod
    def of_administrators(cls, *, allow_private: bool) -> "Reach":
        """How far away they may put upstreams, by the setting allow_private_upstreams."""
        return cls.INSIDE if allow_private else cls.OUTSIDE

    def check_host(self, host: str) -> None:
        """Raise OutOfReachError for a host, as a URL names it, that is an address in any notation: 2130706433, 0x7f.1.

        A name says nothing before it is looked up, but for those that clouds give to their metadata.
        """
        if self is Reach.ANYWHERE:
            return
        plain = host.partition("%")[0].rstrip(".").lower()
        if plain in _METADATA_NAMES:
            raise OutOfReachError("leads to the metadata of a cloud")
        with suppress(OSError, UnicodeError):
            for *_, address in socket.getaddrinfo(plain, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST):
                self.check(str(address[0]))

    def check(self, address: str) -> None:
        """Raise OutOfReachError for an address, in its plain notation, that is to be connected to."""
        if self is Reach.ANYWHERE:
            return
        meant = _meant(ip_address(address.partition("%")[0]))
        if meant in _METADATA:
            raise OutOfReachError("leads to the metadata of a cloud")
        if meant.is_link_local or meant.is_multicast or meant.is_unspecified:
            raise OutOfReachError("leads to an address that no upstream has")
        if self is Reach.OUTSIDE and not _is_outside(meant):
            raise OutOfReachError(
                "leads into a private network or to this machine; the operator can allow that with the setting "
                "allow_private_upstreams"
            )


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that this one stands for, or itself."""
    if isinstance(address, IPv4Address):
        return address
    if any(address in carrying for carrying in _CARRYING):
        return IPv4Address(int(address) & _LAST_32_BITS)
    return address.sixtofour or address


def _is_outside(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not any(address in inside for inside in _INSIDE)
