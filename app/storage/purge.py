"""Purge what has expired: responses, conversations, background runs, idempotency keys, usage and counts of limits.

Each is a step of its own, a periodic task that fails and goes on by itself (ADR 32).
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog

from app.settings.gateway import StorageSettings
from app.storage.conversations.expiry import ConversationExpiry
from app.storage.engine.database import Database
from app.storage.idempotency.store import IdempotencyStore
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.responses.expiry import GRACE_SECONDS, ResponseExpiry
from app.storage.runs.store import RunStore
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer

_SECONDS_PER_DAY = 86_400

_log = structlog.get_logger("antiphon.purge")


class Purge:
    """Remove what has expired by the database's clock, and nothing while this process's clock is minutes off."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        runs: RunStore,
        usage: UsageStore,
        limits: DatabaseCounts,
        *,
        idempotency: IdempotencyStore,
        settings: StorageSettings,
    ) -> None:
        self._database = database
        responses = ResponseExpiry(database, writer)
        conversations = ConversationExpiry(database, writer, settings)
        usage_seconds = settings.usage_days * _SECONDS_PER_DAY
        steps: Mapping[str, Callable[[int], Awaitable[int]]] = {
            "responses": lambda now: responses.remove(now - GRACE_SECONDS),
            "conversations": conversations.remove,
            "background runs": lambda _: runs.purge_expired(),
            "idempotency keys": lambda _: idempotency.purge_expired(),
            "usage": lambda now: usage.purge(now - usage_seconds),
            "counts of limits": lambda _: limits.purge_expired(),
        }
        self.steps: Mapping[str, Callable[[], Awaitable[None]]] = {
            what: partial(self._make, what, remove) for what, remove in steps.items()
        }
        """The steps by name: each a periodic task."""

    async def _make(self, what: str, remove: Callable[[int], Awaitable[int]]) -> None:
        now = await self._database.tell_time()
        # The periodic task `clock` logs it.
        if self._database.clock.is_off:
            return
        if removed := await remove(now):
            _log.info(f"purged {what}", count=removed)
