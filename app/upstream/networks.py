"""The way to each upstream, by who put it there. Must not know how connections are made."""

from typing import Literal

import httpx

from app.settings_upstream import AdministeredUpstream, UpstreamSettings
from app.upstream.proxies import EnvironmentProxies
from app.upstream.reach import Reach
from app.upstream.transport import network_transport


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

    def to(self, upstream: UpstreamSettings) -> httpx.AsyncBaseTransport:
        """The transport to this upstream."""
        return self._administered if isinstance(upstream, AdministeredUpstream) else self._configured

    async def aclose(self) -> None:
        """Close every connection."""
        await self._configured.aclose()
        await self._administered.aclose()
