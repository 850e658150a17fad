"""Answer liveness and readiness probes without calling a model, as `relay.process.readiness` decides."""

from collections.abc import Awaitable, Callable

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.api.services import ServicesOf


async def livez() -> Response:
    """Answer that the process runs its event loop."""
    return _report({"status": "ok"})


async def readyz(services: ServicesOf) -> Response:
    """Answer whether calls should be sent here.

    They should if the gateway is open and not about to end, its database takes writes, its schema is this version's.
    """
    ready, checks = await services.readiness.report(services.registry, services.health, services.periodic_tasks)
    return _report({"status": "ready" if ready else "not ready", **checks}, status=200 if ready else 503)


async def options(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer `OPTIONS *`, which is about the server and no resource (RFC 9110 §9.3.7)."""
    allowed = [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})


def _report(state: dict[str, str], status: int = 200) -> Response:
    return Response(orjson.dumps(state), status_code=status, media_type="application/json")


# Load balancers probe by HEAD, too: the server leaves the body out.
PROBES: tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...] = tuple(
    (method, path, endpoint)
    for path, endpoint in (
        ("/livez", livez),
        ("/health", livez),
        ("/healthz", livez),
        ("/readyz", readyz),
    )
    for method in ("GET", "HEAD")
)
