"""The connections of this process, used again while they are fresh. Must not know what is asked on them."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable

import httpx

from app.outbox import Outbox
from app.upstream.http1 import READ_BYTES, Connection
from app.upstream.route import Route

# Below the idle timeout of every server met (5-75 s), so that a kept connection is rarely a dead one.
IDLE_SECONDS = 4.0


class KeepAlive:
    """At most `limit` connections, whether in use, idle or being made. It opens them with `connect`.

    Who finds none to take waits, in order. Invariant: a connection holds its place from its making until it is gone.
    """

    def __init__(self, connect: Callable[[Connection, Route], Awaitable[None]], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        self._routes: dict[Connection, Route] = {}
        # Of each route, when they came to rest; the last to come is the first to go.
        self._idle: defaultdict[Route, dict[Connection, float]] = defaultdict(dict)
        # Each with the route whose connections it takes when they come to rest; None takes only new ones.
        self._waiting: deque[tuple[Route | None, Route, asyncio.Future[Connection]]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    def idle(self, route: Route) -> Connection | None:
        """An idle connection of this route, which is now in use."""
        idle = self._idle.get(route)
        return idle.popitem()[0] if idle else None

    async def open(
        self, route: Route, *, wait_seconds: float | None, connect_seconds: float | None, is_new: bool = False
    ) -> Connection:
        """A connection for this route, new, or freed meanwhile unless `is_new`. It may be lost before it is used.

        Raises httpx.PoolTimeout, ConnectTimeout, or what `connect` raises; cancelled, it takes no place.
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

    def rested(self, connection: Connection) -> None:
        """Keep the connection for the next, or give it to who waits."""
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

    def gone(self, connection: Connection) -> None:
        """Give the connection's place to who waits longest."""
        route = self._routes.pop(connection)
        self._idle[route].pop(connection, None)
        while self._waiting:
            _, route, place = self._waiting.popleft()
            if not place.done():
                place.set_result(self._new(route))
                break

    def close(self) -> None:
        """Close every connection; those who wait for one get httpx.ConnectError."""
        closed = httpx.ConnectError("The transport was closed.")
        while self._waiting:
            place = self._waiting.popleft()[2]
            if not place.done():
                place.set_exception(closed)
        for connection in [*self._routes]:
            connection.abort(closed)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _new(self, route: Route) -> Connection:
        connection = Connection(self, self._outbox)
        self._routes[connection] = route
        return connection

    def _make_room(self) -> bool:
        """Close an idle connection, if there is one."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort(httpx.ReadError("Its place is needed for another."))
                return True
        return False

    async def _wait(self, freed: Route | None, route: Route, seconds: float | None) -> Connection:
        place: asyncio.Future[Connection] = self._loop.create_future()
        waiting = (freed, route, place)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                return await place
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not place.cancelled() and place.exception() is None:
                self._return(place.result())
            if isinstance(error, TimeoutError):
                raise httpx.PoolTimeout("No connection came free in time.") from None
            raise

    def _return(self, connection: Connection) -> None:
        """Take back what was given to one who has just given up waiting."""
        if connection.transport is None:
            connection.abort(httpx.ConnectError("The connection was given up."))
        elif not connection.closed:
            self.rested(connection)

    def _sweep(self) -> None:
        """Close what has been idle for too long: one timer serves all."""
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
