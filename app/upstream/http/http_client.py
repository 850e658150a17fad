"""Send HTTP/1.1 requests to upstreams over pooled connections."""

import ssl
from collections.abc import Awaitable
from functools import cached_property

import httpx

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.upstream.http.connection_pool import ConnectionPool
from app.upstream.http.connector import Connector
from app.upstream.http.egress_policy import EgressPolicy
from app.upstream.http.proxies import EnvironmentProxies
from app.upstream.http.route import Route, lines_of
from app.upstream.transport import Answer, Ask, RawHeaders, UpstreamRequest


class HttpClient:
    """Send requests over HTTP/1.1, as a Transport. It connects with the first request, inside the loop; to be closed.

    It keeps no cookies, follows no redirect, decodes nothing. The addresses of a name are checked by the egress policy
    and then connected to, without another look-up. A proxy may be anywhere; an origin behind it is checked only where
    its host is an address, as the proxy looks names up.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        proxies: EnvironmentProxies,
        max_connections: int,
        egress_policy: EgressPolicy = EgressPolicy.ANYWHERE,
    ) -> None:
        self._tls = tls
        self._egress_policy = egress_policy
        self._proxies = proxies
        self._max_connections = max_connections
        self._routes: dict[tuple[bytes, bytes, int | None], Route] = {}

    @cached_property
    def _connections(self) -> ConnectionPool:
        """Make the connection pool with the first request, inside the loop."""
        return ConnectionPool(Connector(self._tls, self._egress_policy).connect, self._max_connections)

    def prepare(self, request: UpstreamRequest) -> Ask:
        route = self._route(request.url)
        prefix = route.head(request.method, request.url.raw_path, request.headers.raw)
        is_get = request.method == "GET"
        connect_seconds, silence_seconds = request.connect_seconds, request.silence_seconds
        is_new = request.on_new_connection

        def ask(
            body: bytes, more: RawHeaders, _tenant: str = "", _reserve: Reserve = reserve_nothing
        ) -> Awaitable[Answer]:
            head = prefix + lines_of(more) if more else prefix
            length = b"content-length: %d\r\n" % len(body) if body or not is_get else b""
            head = b"%b%b\r\n" % (head, length)
            connection = None if is_new else self._connections.idle(route)
            if connection is None:
                return self._ask_on_another(route, head, body, connect_seconds, silence_seconds, is_new=is_new)
            return connection.ask(head, body, silence_seconds)

        return ask

    async def aclose(self) -> None:
        self._connections.close()

    async def _ask_on_another(
        self,
        route: Route,
        head: bytes,
        body: bytes,
        connect_seconds: float,
        silence_seconds: float | None,
        *,
        is_new: bool,
    ) -> Answer:
        connection = await self._connections.open(
            route, wait_seconds=connect_seconds, connect_seconds=connect_seconds, is_new=is_new
        )
        return await connection.ask(head, body, silence_seconds)

    def _route(self, url: httpx.URL) -> Route:
        origin = (url.raw_scheme, url.raw_host, url.port)
        route = self._routes.get(origin)
        if route is None:
            if url.scheme not in {"http", "https"}:
                raise httpx.UnsupportedProtocol("An upstream is called by http or https.")
            route = self._routes[origin] = Route(url, self._proxies.on_the_way_to(url))
        return route
