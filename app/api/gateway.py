"""The app: the framework's router behind the edge, which every request meets first."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.api.edge import Edge
from app.api.routes import add_routes
from app.api.services import Services


class Gateway(FastAPI):
    """The whole HTTP surface over these services. It serves calls once `open` has been awaited, probes before.

    `options` are the framework's.
    """

    def __init__(self, services: Services, open_: Callable[[], Awaitable[None]], **options: Any) -> None:
        super().__init__(
            title="Antiphon", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, **options
        )
        self.state.services = services
        self.open = open_
        self._edge = Edge(super().__call__, add_routes(self, services), services.readiness)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._edge(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """What the router needs around it, without the layers whose work the edge and the intake do."""
        return AsyncExitStackMiddleware(self.router)
