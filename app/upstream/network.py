"""HTTP/1.1 to the upstreams over the network, as an httpx transport. Must not know what an account or a fault is."""

import ssl
from functools import cached_property

import httpx

from app.upstream.connector import Connector
from app.upstream.keep_alive import KeepAlive
from app.upstream.proxies import EnvironmentProxies
from app.upstream.reach import Reach
from app.upstream.request_body import RequestBody
from app.upstream.route import Route


class Network(httpx.AsyncBaseTransport):
    """The connections of the process. It keeps no cookies, follows no redirect, decodes nothing.

    Of a request's timeouts `pool` is the wait for a place among the connections, `connect` the time to make one, `read`
    the silence in the middle of a body. The beginning of an answer is waited for as long as the caller likes.
    """

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

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        origin = (url.raw_scheme, url.raw_host, url.port)
        route = self._routes.get(origin) or self._routes.setdefault(origin, self._route(url))
        timeout = request.extensions.get("timeout", {})
        stream = request.stream
        body = stream.content if isinstance(stream, RequestBody) else await request.aread()
        head = route.head(request, len(body))
        connections = self._connections
        connection = connections.idle(route) or await connections.open(
            route, wait_seconds=timeout.get("pool"), connect_seconds=timeout.get("connect")
        )
        answer = await connection.ask(head, body, timeout.get("read"))
        return httpx.Response(answer.status, headers=answer.headers, stream=answer.body, request=request)

    async def aclose(self) -> None:
        self._connections.close()

    def _route(self, url: httpx.URL) -> Route:
        if url.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol("An upstream is called by http or https.")
        return Route(url, self._proxies.on_the_way_to(url))
