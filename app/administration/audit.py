"""Commit each change together with its record in the audit log, and list the records."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from app.administration.actor import Actor
from app.errors import ConflictError, StorageError
from app.ids import new_id
from app.state.audit import AuditRecord
from app.storage.audit import ACTOR_CHANGED, ActingKey, AuditStore
from app.storage.writer.writer import Write

T = TypeVar("T")


class Audit:
    """Read and write the audit log: who did what, when and from where."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def list(
        self, *, after: str | None = None, limit: int = 50, subject: str | None = None
    ) -> Sequence[AuditRecord]:
        """List the latest records, older than the record `after`; of one subject (an id or a name) or of all."""
        return await self._store.list(after=after, limit=limit, subject=subject)

    async def submit(self, actor: Actor, action: str, subject: str, details: Mapping[str, Any], change: Write[T]) -> T:
        """Make a change and record it, in one transaction; returns the change's result.

        `action` is a noun and a verb ("key.rotate"), `details` has no secrets. A change whose result is None
        or False has changed nothing, and is not recorded. Raises PermissionDeniedError for an actor who may only read,
        and ConflictError for one whose own key was changed meanwhile, or has ended.
        """
        actor.check_can_write()
        record = AuditRecord(
            new_id("audit"), int(time.time()), actor.name, actor.address, action, subject, msgspec.json.encode(details)
        )
        acting = None if actor.key_id is None else ActingKey(actor.key_id, actor.key_version)
        try:
            return await self._store.submit(change, record, acting)
        except StorageError as error:
            if error.code != ACTOR_CHANGED:
                raise
            raise ConflictError("Your own key was changed meanwhile. Try again.") from error
