"""Keep the connections of this process for reuse while they are fresh, and limit how many there are."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable

import httpx

from app.runtime.write_coalescer import WriteCoalescer
from app.upstream.http.connection import READ_BYTES, Connection
from app.upstream.http.route import Route

# Shorter than the idle timeout of every known server (5-75 s), so that a kept connection is rarely a dead one.
IDLE_SECONDS = 4.0


class ConnectionPool:
    """Keep at most `limit` connections, whether in use, idle or being made. `connect` opens them.

    Calls wait in order for a connection. Invariant: a connection has its slot from its making until it is closed.
    """

    def __init__(self, connect: Callable[[Connection, Route], Awaitable[None]], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._coalescer = WriteCoalescer()
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        self._routes: dict[Connection, Route] = {}
        # Idle connections of each route and since when; the newest is reused first.
        self._idle: defaultdict[Route, dict[Connection, float]] = defaultdict(dict)
        # Each waits for a released connection of the first route, or with None only for a new one.
        self._waiting: deque[tuple[Route | None, Route, asyncio.Future[Connection]]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    def idle(self, route: Route) -> Connection | None:
        """Take an idle connection of this route, if there is one."""
        idle = self._idle.get(route)
        return idle.popitem()[0] if idle else None

    async def open(
        self, route: Route, *, wait_seconds: float | None, connect_seconds: float | None, is_new: bool = False
    ) -> Connection:
        """Open a connection for this route, or wait for a released one unless `is_new`. It may be lost before use.

        Raises httpx.PoolTimeout, ConnectTimeout, or what `connect` raises; cancelled, it occupies no slot.
        """
        if len(self._routes) < self._limit or self._make_room():
            connection = self._new(route)
        else:
            connection = await self._wait(None if is_new else route, route, wait_seconds)
        if connection.transport is None and not connection.closed:
            try:
                async with asyncio.timeout(connect_seconds):
                    await self._connect(connection, route)
            except TimeoutError:
                connection.abort(httpx.ConnectTimeout("The connection was not made in time."))
                raise httpx.ConnectTimeout("The connection was not made in time.") from None
            except BaseException:
                connection.abort(httpx.ConnectError("The connection was given up."))
                raise
        return connection

    def released(self, connection: Connection) -> None:
        """Keep the connection for reuse, or give it to the first that waits."""
        route = self._routes[connection]
        while self._waiting and self._waiting[0][2].done():
            self._waiting.popleft()
        if not self._waiting:
            self._idle[route][connection] = self._loop.time()
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(IDLE_SECONDS, self._sweep)
        elif self._waiting[0][0] is route:
            self._waiting.popleft()[2].set_result(connection)
        else:
            connection.abort(httpx.ReadError("Its place is needed for another."))

    def closed(self, connection: Connection) -> None:
        """Give the connection's slot to the first that waits."""
        route = self._routes.pop(connection)
        self._idle[route].pop(connection, None)
        while self._waiting:
            _, route, slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(self._new(route))
                break

    def close(self) -> None:
        """Close every connection; waiting calls get httpx.ConnectError."""
        closed = httpx.ConnectError("The transport was closed.")
        while self._waiting:
            slot = self._waiting.popleft()[2]
            if not slot.done():
                slot.set_exception(closed)
        for connection in [*self._routes]:
            connection.abort(closed)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _new(self, route: Route) -> Connection:
        connection = Connection(self, self._coalescer)
        self._routes[connection] = route
        return connection

    def _make_room(self) -> bool:
        """Close an idle connection, if there is one, for its slot."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort(httpx.ReadError("Its place is needed for another."))
                return True
        return False

    async def _wait(self, freed: Route | None, route: Route, seconds: float | None) -> Connection:
        slot: asyncio.Future[Connection] = self._loop.create_future()
        waiting = (freed, route, slot)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                return await slot
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not slot.cancelled() and slot.exception() is None:
                self._return(slot.result())
            if isinstance(error, TimeoutError):
                raise httpx.PoolTimeout("No connection came free in time.") from None
            raise

    def _return(self, connection: Connection) -> None:
        """Take back what was given to a call that has just given up waiting."""
        if connection.transport is None:
            connection.abort(httpx.ConnectError("The connection was given up."))
        elif not connection.closed:
            self.released(connection)

    def _sweep(self) -> None:
        """Close connections that have been idle for too long; one timer serves all."""
        self._sweeper = None
        now = self._loop.time()
        oldest = now
        for idle in self._idle.values():
            for connection, since in [*idle.items()]:
                if now - since < IDLE_SECONDS:
                    oldest = min(oldest, since)
                    break
                connection.abort(httpx.ReadError("The connection was idle for too long."))
        if any(self._idle.values()):
            self._sweeper = self._loop.call_later(oldest + IDLE_SECONDS - now, self._sweep)
