"""Whether the process lives, and whether it can serve. Neither asks a model anything."""

import orjson
from fastapi import Response

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
    if failing := services.duties.failing:
        # They are tried again by themselves, and calls can be served meanwhile.
        checks["failing duties"] = ", ".join(f"{duty.name} ({duty.reason})" for duty in failing)
    return _report({"status": "ready" if ready else "not ready", **checks}, status=200 if ready else 503)


def _report(state: dict[str, str], status: int = 200) -> Response:
    return Response(orjson.dumps(state), status_code=status, media_type="application/json")
