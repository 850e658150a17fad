"""Sweep what has expired: responses, conversations, background runs, idempotency keys, usage and the counts of limits.

Each is a step of its own, a duty that fails and goes on by itself (ADR 32).
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog

from app.settings import StorageSettings
from app.storage.conversation_expiry import ConversationExpiry
from app.storage.database import Database
from app.storage.idempotency_store import IdempotencyStore
from app.storage.limit_store import LimitStore
from app.storage.response_expiry import GRACE_SECONDS, ResponseExpiry
from app.storage.run_store import RunStore
from app.storage.usage_store import UsageStore
from app.storage.writer import Writer

_SECONDS_PER_DAY = 86_400

_log = structlog.get_logger("antiphon.purge")


class Purge:
    """Removes what has expired by the database's clock; nothing while this process's is minutes off that."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        runs: RunStore,
        usage: UsageStore,
        limits: LimitStore,
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
        """What is swept, by its name."""

    async def _make(self, what: str, remove: Callable[[int], Awaitable[int]]) -> None:
        now = await self._database.tell_time()
        # The duty `clock` says so.
        if self._database.clock.is_off:
            return
        if removed := await remove(now):
            _log.info(f"purged {what}", count=removed)
