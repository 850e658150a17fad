"""Claim, renew, finish and forget idempotency keys, and read the answers that were kept.

A claim is a lease by the database's clock, under a name of its own: a call that lost the lease keeps no answer.
"""

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from app.errors import ApiError
from app.runtime.byte_budget import Reserve
from app.settings.limits import LimitsSettings
from app.state.idempotency import Answer, KeyedCall, KeyedRequest
from app.storage.engine.database import Database
from app.storage.idempotency.tables import idempotency_keys
from app.storage.idempotency.writes import (
    ClaimKey,
    EraseAnswers,
    FinishKey,
    ForgetKey,
    PurgeKeys,
    RenewKeys,
    find,
    shows,
)
from app.storage.writer.writer import Writer

_C = idempotency_keys.c


class TooManyKeysError(ApiError):
    """Refuse a call because its project has used all its idempotency keys."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


class IdempotencyStore:
    """Store the idempotency keys of all projects."""

    def __init__(self, database: Database, writer: Writer, settings: LimitsSettings) -> None:
        self._database = database
        self._writer = writer
        self._most_keys = settings.idempotency_keys
        self._most_bytes = settings.idempotency_bytes

    async def claim(self, request: KeyedRequest, owner: str, lease_seconds: int) -> KeyedCall | None:
        """Claim the key for this owner, for the length of the lease; return the call that has it already, else None.

        Raises TooManyKeysError and StorageError.
        """
        claimed = await self._writer.submit(ClaimKey(request, owner, lease_seconds, self._most_keys))
        if claimed is False:
            raise TooManyKeysError(
                f"Rate limit reached: your project has used {self._most_keys} idempotency keys within 24 hours. "
                "Please try again later, or without the 'Idempotency-Key' header.",
                headers={"x-should-retry": "false"},
            )
        return None if claimed is True else claimed

    async def find(self, request: KeyedRequest) -> KeyedCall | None:
        """Return the call that was made under this key; None where the key is unknown, or its owner is gone."""
        return await self._database.read(lambda connection: find(connection, request))

    async def read_body(self, call: KeyedCall, reserve: Reserve) -> bytes | None:
        """Return the kept body of this call's answer. `reserve` is called before much is read."""
        own = _C.key == call.key

        def read(connection: Connection, most: int) -> tuple[int, bytes | None]:
            size = connection.scalar(select(func.length(_C.body)).where(own))
            if size is None or size > most:
                return size or 0, None
            return size, connection.scalar(select(_C.body).where(own))

        return await self._database.read_within(read, reserve)

    async def finish(self, request: KeyedRequest, owner: str, answer: Answer) -> None:
        """Keep the answer, unless it shows an object that was deleted meanwhile, or the lease was lost."""
        await self._writer.submit(FinishKey(request, owner, answer, self._most_bytes))

    async def forget(self, request: KeyedRequest, owner: str) -> None:
        """Release the key, so that the next call under it is the first."""
        await self._writer.submit(ForgetKey(request, owner))

    async def renew(self, owners: Collection[str], lease_seconds: int) -> None:
        """Renew these leases, where their owners still have them."""
        await self._writer.submit(RenewKeys(tuple(owners), lease_seconds))

    async def erase(self, project_id: str, object_id: str) -> None:
        """Remove the answers that show this deleted response or conversation."""
        shown = select(_C.key).where(*shows(project_id, object_id)).limit(1)
        if await self._database.read(lambda connection: connection.scalar(shown)) is not None:
            await self._writer.submit(EraseAnswers(project_id, object_id))

    async def purge_expired(self, batch: int = 100) -> int:
        """Remove expired keys, `batch` per commit; return how many."""
        purged = 0
        while removed := await self._writer.submit(PurgeKeys(batch)):
            purged += removed
        return purged
