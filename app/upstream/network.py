"""HTTP/1.1 to the upstreams over the network. Must not know what an account or a fault is."""

import ssl
from collections.abc import Awaitable
from functools import cached_property

import httpx

from app.upstream.connector import Connector
from app.upstream.keep_alive import KeepAlive
from app.upstream.proxies import EnvironmentProxies
from app.upstream.reach import Reach
from app.upstream.route import Route, lines_of
from app.upstream.transport import Answer, Ask, RawHeaders, UpstreamRequest


class Network:
    """The connections of the process. It keeps no cookies, follows no redirect, decodes nothing."""

    def __init__(
        self, tls: ssl.SSLContext, proxies: EnvironmentProxies, max_connections: int, reach: Reach = Reach.ANYWHERE
    ) -> None:
        self._tls = tls
        self._reach = reach
        self._proxies = proxies
        self._max_connections = max_connections
        self._routes: dict[tuple[bytes, bytes, int | None], Route] = {}

    @cached_property
    def _connections(self) -> KeepAlive:
        """Made by the first request, inside the loop."""
        return KeepAlive(Connector(self._tls, self._reach).connect, self._max_connections)

    def prepare(self, request: UpstreamRequest) -> Ask:
        route = self._route(request.url)
        said = route.head(request.method, request.url.raw_path, request.headers.raw)
        is_get = request.method == "GET"
        connect_seconds, silence_seconds = request.connect_seconds, request.silence_seconds
        is_new = request.on_new_connection

        def ask(body: bytes, more: RawHeaders) -> Awaitable[Answer]:
            head = said + lines_of(more) if more else said
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
