"""How the open streams of a living process stay counted. Must not know where they are."""

import asyncio
from collections.abc import Awaitable, Callable, Sized

import structlog

from app.errors import StorageError

_log = structlog.get_logger("antiphon.limits")


async def renew_forever(held: Sized, lease_ms: int, renew: Callable[[], Awaitable[None]]) -> None:
    """Renew the leases that are held, three times a lease."""
    while True:
        await asyncio.sleep(lease_ms / 3000)
        if not len(held):
            continue
        try:
            await renew()
        except StorageError as error:
            _log.warning("counted streams were not renewed", count=len(held), reason=error.message)
