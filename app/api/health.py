"""Answer whether the process lives, and whether it can serve, without asking a model anything."""

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
    readiness = services.readiness
    if readiness.obstacle is not None:
        return _report({"status": "not ready", "admission": "starting", "reason": readiness.obstacle}, status=503)
    admission = "ok" if services.registry.is_open else "closed"
    checks = {"admission": "draining" if readiness.is_leaving else admission, **await services.health.report()}
    ready = all(state == "ok" for state in checks.values())
    if failing := services.duties.failing:
        # They are tried again by themselves, and calls can be served meanwhile.
        checks["failing duties"] = ", ".join(f"{duty.name} ({duty.reason})" for duty in failing)
    return _report({"status": "ready" if ready else "not ready", **checks}, status=200 if ready else 503)


async def options(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer `OPTIONS *`, which asks the server and no resource (RFC 9110 §9.3.7)."""
    allowed = [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})


def _report(state: dict[str, str], status: int = 200) -> Response:
    return Response(orjson.dumps(state), status_code=status, media_type="application/json")
