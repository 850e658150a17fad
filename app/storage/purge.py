"""The sweep of what has expired: responses, background runs, usage and the counts of limits."""

import time

import structlog

from app.settings import StorageSettings
from app.storage.limit_store import LimitStore
from app.storage.response_store import ResponseStore
from app.storage.run_store import RunStore
from app.storage.usage_store import UsageStore

_SECONDS_PER_DAY = 86_400

_log = structlog.get_logger("antiphon.purge")


class Purge:
    """Removes what has expired, step by step: one that fails keeps none of the others from being made."""

    def __init__(
        self, responses: ResponseStore, runs: RunStore, usage: UsageStore, limits: LimitStore, settings: StorageSettings
    ) -> None:
        self._responses = responses
        self._runs = runs
        self._usage = usage
        self._limits = limits
        self._settings = settings

    async def sweep(self) -> None:
        """Make every step. Raises the first error that there was, after the last."""
        errors = []
        for what, step in (
            ("expired responses", self._purge_responses),
            ("ended background runs", self._runs.purge_expired),
            ("usage", self._purge_usage),
            ("counts of limits", self._limits.purge_expired),
        ):
            try:
                purged = await step()
            except Exception as error:  # noqa: BLE001 (it is raised in the end)
                errors.append(error)
                continue
            if purged:
                _log.info(f"purged {what}", count=purged)
        if errors:
            raise errors[0]

    async def _purge_responses(self) -> int:
        return await self._responses.purge_expired(int(time.time()))

    async def _purge_usage(self) -> int:
        return await self._usage.purge(int(time.time()) - self._settings.usage_days * _SECONDS_PER_DAY)
