"""The way to each upstream, by who put it there. Must not know how connections are made."""

import ssl
from typing import Literal

import httpx

from app.settings_upstream import AdministeredUpstream, UpstreamSettings
from app.upstream.network import Network
from app.upstream.proxies import EnvironmentProxies
from app.upstream.reach import Reach
from app.upstream.transport import HttpxTransport, Transport


class Networks:
    """The connections of the process, opened by the first request inside the loop; to be closed at the end.

    Those to upstreams of administrators are apart, at most `max_connections` of their own: each was made within
    `reach`, none for somebody else. The operator's upstreams are anywhere.
    """

    def __init__(self, kind: Literal["native", "aiohttp"], max_connections: int, *, allow_private: bool) -> None:
        tls, proxies = httpx.create_ssl_context(), EnvironmentProxies()
        self.reach = Reach.of_administrators(allow_private=allow_private)
        self._configured = network_transport(kind, tls, proxies, max_connections)
        self._administered = network_transport(kind, tls, proxies, max_connections, self.reach)

    def to(self, upstream: UpstreamSettings) -> Transport:
        """The transport to this upstream."""
        return self._administered if isinstance(upstream, AdministeredUpstream) else self._configured

    async def aclose(self) -> None:
        """Close every connection."""
        await self._configured.aclose()
        await self._administered.aclose()


def network_transport(
    kind: Literal["native", "aiohttp"],
    tls: ssl.SSLContext,
    proxies: EnvironmentProxies,
    max_connections: int,
    reach: Reach = Reach.ANYWHERE,
) -> Transport:
    """A connection pool, opened by the first request inside the loop; to be closed at the end.

    What a name leads to is checked against `reach` and then connected to, without another look-up. A proxy is where the
    operator says; what is behind it can be checked where a host is an address, as names are for the proxy to look up.
    """
    if kind == "native":
        return Network(tls, proxies, max_connections, reach)
    # Not at the top: it brings a library of 8 MB, which the usual process does without.
    from app.upstream.aiohttp_network import AiohttpNetwork  # noqa: PLC0415 - see above

    return HttpxTransport(AiohttpNetwork(tls, proxies, max_connections, reach))
