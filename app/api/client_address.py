"""Find the address that a call comes from: its socket's, or the one in the one header of a trusted proxy.

A header that is not clear gives no address. A key that is bound to networks is then refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import structlog
from starlette.types import Scope

from app.state.ip_addresses import Address, read_address, read_network

_Hops = Sequence[Address] | None

# Proxies in a row. No installation has as many, and a client may send a list of any size.
_MOST_HOPS = 32
_REMEMBERED_PEERS = 4096
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
_V4_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")
# One pair of an element of Forwarded and the separator behind it (RFC 7239 §4). A quoted value may hold separators.
_PAIR = re.compile(r"[ \t]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)=(?:\"([^\"\\]*)\"|([^\s\",;=\\]+))[ \t]*([,;]|$)")

_log = structlog.get_logger("antiphon.addresses")


class Addresses:
    """Resolve the addresses of clients behind trusted proxies.

    `trusted_proxies` are the networks of proxies, `header` (in lower case) the one header that is believed of them. No
    other header is read, and none from any other peer.
    """

    def __init__(self, trusted_proxies: Sequence[str], header: str | None) -> None:
        self._trusted = [read_network(network) for network in trusted_proxies]
        self._header = None if header is None else header.encode()
        self._read: Callable[[str], _Hops] = _READERS.get(header or "", _single)
        self._peer = lru_cache(_REMEMBERED_PEERS)(self._classify)
        if self._trusted and header is None:
            _log.warning(
                "clients behind trusted_proxies have no address, and keys that are bound to networks are refused: "
                "name the header that your proxy sets in ANTIPHON_CLIENT_ADDRESS_HEADER"
            )
        elif header is not None and not self._trusted:
            _log.warning(
                "client_address_header is not believed of anybody: name your proxy's network in "
                "ANTIPHON_TRUSTED_PROXIES",
                header=header,
            )

    def of(self, scope: Scope) -> str | None:
        """Return the client's address; None where there is none, or where a trusted proxy's header is not clear.

        Clear: the header stands once, and each element of it is an address. Of a list the right-most address counts
        that is no trusted proxy's, because what a client sends itself stands to the left of what a proxy appends; where
        all are proxies, the left-most. Any other header holds exactly one address.
        """
        client = scope.get("client")
        if client is None:
            return None
        peer, is_trusted = self._peer(client[0])
        return self._from_header(scope["headers"]) if is_trusted else peer

    def _classify(self, host: str) -> tuple[str | None, bool]:
        address = read_address(host)
        return (None, False) if address is None else (str(address), self._is_trusted(address))

    def _from_header(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        values = [value for name, value in headers if name == self._header]
        hops = self._read(values[0].decode("latin-1")) if len(values) == 1 else None
        if not hops:
            return None
        return str(next((hop for hop in reversed(hops) if not self._is_trusted(hop)), hops[0]))

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _single(value: str) -> _Hops:
    address = _node(value.strip(" \t"))
    return None if address is None else [address]


def _listed(value: str) -> _Hops:
    """Parse the hops of X-Forwarded-For, with commas between."""
    return _all(_node(element.strip(" \t")) for element in value.split(",", _MOST_HOPS))


def _standard(value: str) -> _Hops:
    """Parse the hops of Forwarded (RFC 7239), each the one `for` of an element."""
    hops: list[Address | None] = []
    node: str | None = None
    at = 0
    while (pair := _PAIR.match(value, at)) is not None:
        name, quoted, token, end = pair.groups()
        if name.lower() == "for":
            if node is not None:
                return None
            node = token if quoted is None else quoted
        if end != ";":
            hops.append(_node(node or ""))
            node = None
            if not end:
                return _all(hops)
        at = pair.end()
    return None


def _all(hops: Iterable[Address | None]) -> _Hops:
    """Return these hops, or None if one of them is no address or they are too many."""
    found: list[Address] = []
    for hop in hops:
        if hop is None or len(found) == _MOST_HOPS:
            return None
        found.append(hop)
    return found


def _node(text: str) -> Address | None:
    """Parse a host with or without a port; an IPv6 address with a port stands in brackets."""
    match = _BRACKETED.fullmatch(text) or _V4_WITH_PORT.fullmatch(text)
    return read_address(match[1] if match else text)


_READERS: Mapping[str, Callable[[str], _Hops]] = {"x-forwarded-for": _listed, "forwarded": _standard}
