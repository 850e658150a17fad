"""The sweep of expired responses."""

import asyncio
import time

import structlog

from app.errors import StorageError
from app.settings import StorageSettings
from app.storage.limit_store import LimitStore
from app.storage.response_store import ResponseStore
from app.storage.run_store import RunStore
from app.storage.usage_store import UsageStore

_SECONDS_PER_DAY = 86_400

_log = structlog.get_logger("antiphon.purge")


async def purge_forever(
    responses: ResponseStore, runs: RunStore, usage: UsageStore, limits: LimitStore, settings: StorageSettings
) -> None:
    """Remove what has expired, now and at every interval. A database that is down is asked again next time."""
    while True:
        try:
            if purged := await responses.purge_expired(int(time.time())):
                _log.info("purged expired responses", count=purged)
            if purged := await runs.purge_expired():
                _log.info("purged ended background runs", count=purged)
            if purged := await usage.purge(int(time.time()) - settings.usage_days * _SECONDS_PER_DAY):
                _log.info("purged usage", count=purged)
            await limits.purge_expired()
        except StorageError as error:
            _log.warning("purge failed", reason=error.message)
        await asyncio.sleep(settings.purge_interval_seconds)
