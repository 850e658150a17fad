"""Answer whether the process lives, and whether it can serve, without asking a model anything."""

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.api.services import ServicesOf
from app.errors import StorageError
from app.storage.schema import is_current


async def livez() -> Response:
    """Answer that the process runs its event loop."""
    return _report({"status": "ok"})


async def readyz(services: ServicesOf) -> Response:
    """Answer whether calls can be served now: admission is open, the database answers, its schema is this version's."""
    checks = {"admission": "ok" if services.registry.is_open else "closed", "database": "ok", "schema": "ok"}
    try:
        await services.database.ping()
        checks["schema"] = "ok" if await is_current(services.database) else "run `antiphon migrate`"
    except StorageError as error:
        checks["database"] = error.message
    ready = all(state == "ok" for state in checks.values())
    return _report({"status": "ready" if ready else "not ready", **checks}, status=200 if ready else 503)


async def options(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer `OPTIONS *`, which asks the server and no resource (RFC 9110 §9.3.7)."""
    allowed = [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})


def _report(state: dict[str, str], status: int = 200) -> Response:
    return Response(orjson.dumps(state), status_code=status, media_type="application/json")
