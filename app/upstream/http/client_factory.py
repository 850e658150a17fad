"""Make the HTTP client for each upstream: one for the operator's upstreams, one for those of administrators."""

import httpx

from app.settings.upstreams import AdministeredUpstream, UpstreamSettings
from app.upstream.http.egress_policy import EgressPolicy
from app.upstream.http.http_client import HttpClient
from app.upstream.http.proxies import EnvironmentProxies
from app.upstream.transport import Transport


class ClientFactory:
    """Hold the HTTP clients of the process, which connect with the first request, inside the loop; to be closed.

    The client for upstreams of administrators has at most `max_connections` of its own, each within `egress_policy`.
    The operator's upstreams may be anywhere.
    """

    def __init__(self, max_connections: int, *, allow_private: bool) -> None:
        tls, proxies = httpx.create_ssl_context(), EnvironmentProxies()
        self.egress_policy = EgressPolicy.of_administrators(allow_private=allow_private)
        self._configured = HttpClient(tls, proxies, max_connections)
        self._administered = HttpClient(tls, proxies, max_connections, self.egress_policy)

    def to(self, upstream: UpstreamSettings) -> Transport:
        """Return the transport to this upstream."""
        return self._administered if isinstance(upstream, AdministeredUpstream) else self._configured

    async def aclose(self) -> None:
        """Close every connection."""
        await self._configured.aclose()
        await self._administered.aclose()
