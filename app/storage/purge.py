"""The sweep of expired responses."""

import asyncio
import time

import structlog

from app.errors import StorageError
from app.storage.response_store import ResponseStore
from app.storage.run_store import RunStore

_log = structlog.get_logger("antiphon.purge")


async def purge_forever(responses: ResponseStore, runs: RunStore, interval_seconds: float) -> None:
    """Remove what has expired, now and at every interval. A database that is down is asked again next time."""
    while True:
        try:
            if purged := await responses.purge_expired(int(time.time())):
                _log.info("purged expired responses", count=purged)
            if purged := await runs.purge_expired():
                _log.info("purged ended background runs", count=purged)
        except StorageError as error:
            _log.warning("purge failed", reason=error.message)
        await asyncio.sleep(interval_seconds)
