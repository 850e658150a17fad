"""The one task that writes: whatever is waiting goes into one transaction. Must not know what the writes are."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import StorageError
from app.storage.database import Database, is_outage

T = TypeVar("T")

_LARGEST_GROUP = 256

_log = structlog.get_logger("antiphon.writer")


class Write(ABC, Generic[T]):
    """One change to the database, with a result of type T. Subclasses are frozen dataclasses beside their store."""

    # Whether content is removed, so that SQLite's log has to be emptied of it too.
    erases: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    async def apply(cls, connection: AsyncConnection, writes: Sequence[Self]) -> Sequence[T]:
        """Make these changes, in order, in the transaction at hand: one result each. Run again after a rollback."""


@dataclass(slots=True)
class _Pending:
    write: Write[Any]
    outcome: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, error: BaseException) -> None:
        failure = StorageError("The database could not keep this. Try again in a moment.")
        failure.__cause__ = error
        self.outcome.set_exception(failure)
        # Read once here: the waiter may be gone, and the failure has been logged.
        self.outcome.exception()


class Writer:
    """Groups writes into transactions. One per process: it alone uses the database's writing connection."""

    def __init__(self, database: Database, commit_timeout: float, capacity: int = 10_000) -> None:
        self._database = database
        self._commit_timeout = commit_timeout
        self._capacity = capacity
        self._waiting: deque[_Pending] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task; needs a running loop."""
        self._task = asyncio.create_task(  # noqa: TID251 (the writer owns its task and aclose awaits it)
            self._run(), name="storage-writer"
        )

    async def submit(self, write: Write[T]) -> T:
        """Wait until the write is committed, and return its result.

        Raises StorageError when it failed, when `commit_timeout` (seconds) passed, when `capacity` writes are waiting,
        or after closing. Invariant: neither a cancelled caller nor a late one takes its write back. So after a timeout
        the outcome is unknown: the write may still be committed.
        """
        if self._closed or len(self._waiting) >= self._capacity:
            raise StorageError("The gateway cannot take more writes now. Try again in a moment.")
        pending = _Pending(write)
        self._waiting.append(pending)
        self._wake.set()
        # Unlike wait_for, wait leaves the future alone when it is cancelled or late.
        await asyncio.wait((pending.outcome,), timeout=self._commit_timeout)
        if not pending.outcome.done():
            raise StorageError("The database could not commit in time. Try again in a moment.")
        result: T = pending.outcome.result()
        return result

    async def aclose(self) -> None:
        """Refuse new writes, commit those that wait, stop. After `commit_timeout` nobody waits for the rest."""
        self._closed = True
        self._wake.set()
        if self._task is None:
            return
        done, _ = await asyncio.wait((self._task,), timeout=self._commit_timeout)
        if not done:
            await self._database.interrupt(self._task)

    async def _run(self) -> None:
        while self._waiting or not self._closed:
            if self._waiting:
                size = min(len(self._waiting), _LARGEST_GROUP)
                await self._settle([self._waiting.popleft() for _ in range(size)])
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _settle(self, group: list[_Pending]) -> None:
        """Commit the group; when a statement fails it, each write alone, so that a bad one fails only its caller."""
        attempts = deque([group])
        while attempts:
            tried = attempts.popleft()
            error = await self._attempt(tried)
            if error is None:
                continue
            if is_outage(error):
                # The database is down for all of them: ask it once, not once per write.
                tried.extend(chain.from_iterable(attempts))
                attempts.clear()
            elif len(tried) > 1:
                attempts.extend([pending] for pending in tried)
                continue
            # The class alone: a driver's text can quote the row.
            _log.warning("writes failed", count=len(tried), error=type(error).__name__)
            for pending in tried:
                pending.fail(error)

    async def _attempt(self, group: list[_Pending]) -> Exception | None:
        """One transaction for the group, its results handed out; or the error that rolled it back."""
        try:
            results: list[Any] = []
            async with self._database.writer.begin() as connection:
                for _, run in groupby((pending.write for pending in group), key=type):
                    writes = list(run)
                    results.extend(await writes[0].apply(connection, writes))
                outcomes = list(zip(group, results, strict=True))
        except Exception as error:  # noqa: BLE001 (whatever a write raises is its caller's; the task has to live)
            return error
        if any(pending.write.erases for pending in group):
            await self._database.erase_log()
        for pending, result in outcomes:
            pending.outcome.set_result(result)
        return None
