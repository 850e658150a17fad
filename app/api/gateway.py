"""The app: the framework's router behind the edge, which every request meets first."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.responses import JSONResponse
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

    def setup(self) -> None:
        """Serve the API's description, which is written once: it is long, and anybody may ask for it."""
        written: list[bytes] = []

        async def describe(_: Request) -> Response:
            if not written:
                written.append(JSONResponse(None).render(self.openapi()))
            return Response(written[0], media_type="application/json")

        self.add_route("/openapi.json", describe, include_in_schema=False)

    def build_middleware_stack(self) -> ASGIApp:
        """What the router needs around it, without the layers whose work the edge and the intake do."""
        return AsyncExitStackMiddleware(self.router)
