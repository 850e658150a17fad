"""Call the app for the requests of one connection, one after the other, in a single task."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog
from starlette.types import ASGIApp

from app.server.http.cycle import Cycle

_log = structlog.get_logger("antiphon.server")


class AppTask:
    """Run the app in one task per connection, from its first request until `stop`.

    `serving` holds the tasks that uvicorn's shutdown waits for. `failed` is called when the app has left a request
    without its answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        state: Mapping[str, Any],
        serving: set[asyncio.Task[None]],
        failed: Callable[[], None],
    ) -> None:
        self._app = app
        self._state = state
        self._serving = serving
        self._failed = failed
        # Kept: each look-up of the running loop costs a system call (getpid).
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._waiting: tuple[Cycle, Mapping[str, Any]] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._is_stopped = False

    def take(self, cycle: Cycle, addresses: Mapping[str, Any]) -> None:
        """Call the app for this request once it has answered the one before."""
        self._waiting = cycle, addresses
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        else:
            self._go_on()

    def stop(self) -> None:
        """End the task after the request that is being served; a waiting request is dropped."""
        self._is_stopped = True
        self._go_on()

    def _go_on(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        task = cast("asyncio.Task[None]", self._task)
        while not self._is_stopped:
            if self._waiting is None:
                self._wake = self._loop.create_future()
                await self._wake
                continue
            (cycle, addresses), self._waiting = self._waiting, None
            self._serving.add(task)
            try:
                await self._app(cycle.scope(addresses, self._state), cycle.receive, cycle.send)
            except Exception:  # noqa: BLE001 (any error ends the connection)
                if not cycle.is_begun:
                    _log.exception("a request could not be answered")
            finally:
                self._serving.discard(task)
                if not cycle.is_answered:
                    self._failed()
            # Free the answered request.
            del cycle, addresses


def addresses_of(transport: asyncio.BaseTransport) -> Mapping[str, Any]:
    """Return both ends of a connection, as ASGI's scope has them."""
    return {
        "server": _address(transport, "sockname"),
        "client": _address(transport, "peername"),
        "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
    }


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    """Return a socket's address; None if it has none."""
    address = transport.get_extra_info(name)
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
