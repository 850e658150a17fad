"""Open connections to upstreams: resolve names, connect sockets, start TLS, tunnel through a proxy."""

import asyncio
import socket
import ssl
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import httpx
from aiohappyeyeballs import AddrInfoType, start_connection

from app.upstream.http.connection import Connection
from app.upstream.http.egress_policy import EgressPolicy
from app.upstream.http.local_faults import LocalFaultError, local_fault
from app.upstream.http.proxy_tunnel import ProxyTunnel
from app.upstream.http.route import Route

# All connections that open within this time share one look-up of a name.
_NAME_SECONDS = 10.0
# How long an address has before the next is tried beside it (RFC 8305).
_NEXT_ADDRESS_SECONDS = 0.25
_KEEP_ALIVE_SECONDS = 60
# Not every system has these options.
_KEEP_ALIVE_TIMES = [getattr(socket, name) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL") if hasattr(socket, name)]


@dataclass(slots=True)
class _Name:
    """Cache the addresses of one name. The lock makes concurrent callers wait for one look-up."""

    addresses: Sequence[AddrInfoType] = field(default_factory=tuple)
    fresh_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Connector:
    """Open connections along routes, to origins that the egress policy allows.

    A proxy may be at any address, and resolves origins itself.
    """

    def __init__(self, tls: ssl.SSLContext, egress_policy: EgressPolicy) -> None:
        self._tls = tls
        self._egress_policy = egress_policy
        self._names: defaultdict[tuple[str, int], _Name] = defaultdict(_Name)

    async def connect(self, connection: Connection, route: Route) -> None:
        """Connect to the route's origin; cancelled, it leaves nothing open.

        Raises httpx.ConnectError (also EgressDeniedError and LocalFaultError) or ProxyError; then the caller aborts the
        connection.
        """
        self._egress_policy.check_host(route.host)
        try:
            if route.proxy is None:
                tls_name = route.host if route.is_tls else None
                await self._open(connection, route.peer, tls_name=tls_name, egress_policy=self._egress_policy)
            else:
                await self._connect_through(route.proxy, connection, route)
        # UnicodeError: an invalid name. RuntimeError: some of uvloop's socket errors.
        except (OSError, UnicodeError, RuntimeError) as error:
            # The text of the cause names hosts and addresses.
            fault = local_fault(error)
            if fault is not None:
                raise LocalFaultError(fault) from None
            raise httpx.ConnectError("The connection could not be made.") from None

    async def _connect_through(self, proxy: httpx.URL, connection: Connection, route: Route) -> None:
        tls_name = proxy.host if proxy.scheme == "https" else None
        if not route.is_tls:
            await self._open(connection, route.peer, tls_name=tls_name)
            return
        tunnel = ProxyTunnel()
        try:
            await self._open(tunnel, route.peer, tls_name=tls_name)
            opened = await tunnel.open(route.connect_head(proxy))
            transport = await asyncio.get_running_loop().start_tls(
                opened, connection, self._tls, server_hostname=route.host
            )
        except BaseException:
            tunnel.abort()
            raise
        connection.connection_made(cast("asyncio.Transport", transport))

    async def _open(
        self,
        protocol: asyncio.BaseProtocol,
        peer: tuple[str, int],
        *,
        tls_name: str | None,
        egress_policy: EgressPolicy = EgressPolicy.ANYWHERE,
    ) -> None:
        addresses = await self._addresses(peer)
        for *_, address in addresses:
            egress_policy.check(str(address[0]))
        opened = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
        # A model may think for minutes in silence: no middlebox must take the connection for dead.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in _KEEP_ALIVE_TIMES:
            opened.setsockopt(socket.IPPROTO_TCP, option, _KEEP_ALIVE_SECONDS)
        await asyncio.get_running_loop().create_connection(
            lambda: protocol,
            sock=opened,
            ssl=None if tls_name is None else self._tls,
            server_hostname=tls_name,
        )

    async def _addresses(self, peer: tuple[str, int]) -> Sequence[AddrInfoType]:
        loop = asyncio.get_running_loop()
        name = self._names[peer]
        async with name.lock:
            if name.fresh_until <= loop.time():
                name.addresses = await loop.getaddrinfo(*peer, type=socket.SOCK_STREAM)
                name.fresh_until = loop.time() + _NAME_SECONDS
        return name.addresses
