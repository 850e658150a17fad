"""Assemble the ASGI app: FastAPI's router behind the middleware that every request passes first."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.api.middleware import RequestMiddleware
from app.api.openapi.endpoints import add_description
from app.api.routes import add_routes
from app.api.services import Services

_METHODS = ("GET", "POST", "PATCH", "DELETE")
# A page sees no others than these and those that are always safe.
_EXPOSED = (
    *("x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms"),
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    *("x-antiphon-dropped", "x-antiphon-estimated"),
)
# How long a browser keeps what it was told of a call, in seconds.
_KEPT_SECONDS = 600


class Application(FastAPI):
    """Serve the whole HTTP API over these services: probes at once, calls after `open` has been awaited.

    `options` are FastAPI's.
    """

    def __init__(self, services: Services, open_: Callable[[], Awaitable[None]], **options: Any) -> None:
        super().__init__(
            title="Antiphon", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, **options
        )
        self.state.services = services
        self.open = open_
        edge: ASGIApp = RequestMiddleware(super().__call__, add_routes(self, services), services.readiness)
        self._edge = _for_browsers(edge, services.limits.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A coroutine, because that is how servers tell ASGI 3 from 2.
        await self._edge(scope, receive, send)

    def setup(self) -> None:
        """Serve the OpenAPI document for programs at `/openapi.json`, and for people at `/docs`."""
        add_description(self)

    def openapi(self) -> dict[str, Any]:
        """Describe every route, with the bodies and answers that the framework knows nothing of."""
        # Most gateways are never asked, and what it takes is not held until one is.
        from app.api.openapi.document import document  # noqa: PLC0415 - as said above

        return document(route for route in self.routes if isinstance(route, APIRoute))

    def build_middleware_stack(self) -> ASGIApp:
        """Build the stack around the router, without the layers whose work `middleware` and `request_body` do."""
        return AsyncExitStackMiddleware(self.router)


def _for_browsers(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let the pages of these origins call the app from a browser (CORS, WHATWG Fetch §3.2); none: nobody's.

    A page brings its key itself: cookies are never taken, from whichever origin.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=("*",),
        expose_headers=_EXPOSED,
        allow_credentials=False,
        max_age=_KEPT_SECONDS,
    )
