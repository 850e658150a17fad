"""Commit the end of a run: its log, its turn and its row, in one commit that only its owner can make."""

import asyncio
from collections.abc import Callable, Collection

from app.errors import StorageError
from app.relay.background.event_log import EventLogWriter
from app.relay.history.base import History
from app.relay.history.conversation import LockedConversation
from app.relay.stream.discarded_log import DiscardedLog
from app.runtime.byte_budget import Reserve
from app.runtime.compute_thread import ComputeThread
from app.state.records import Chain, Item, StoredResponse
from app.state.runs import Run
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.responses.store import SaveResponse
from app.storage.runs.store import RunStore

# When the database is away for longer the output is lost; the next owner ends the run as failed.
_PATIENCE_SECONDS = 300.0
_RETRY_SECONDS = 0.5
# A run that ends so appends nothing to its conversation, and does not need its lock.
_WITHOUT_TURN = frozenset({"cancelled", "failed"})


class RunCommit:
    """Save the run's turn as the history of its exchange, in one commit with the end of the run.

    `conversation` is the one that the run has locked. `began`: the end is being committed and can no longer be another.
    `is_over`: this process is done with the run, because it has ended or another process owns it; then it `is_lost`.
    """

    def __init__(
        self,
        runs: RunStore,
        history: History,
        run: Run,
        event_log: EventLogWriter | DiscardedLog,
        *,
        keep_seconds: int,
        wrote: Callable[[], None],
        compute_thread: ComputeThread,
    ) -> None:
        self._compute_thread = compute_thread
        self._runs = runs
        self._history = history
        self._run = run
        self._event_log = event_log
        self._keep_seconds = keep_seconds
        self._wrote = wrote
        self.conversation: LockedConversation | None = None
        self.began = False
        self.is_over = False
        self.is_lost = False

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """Read the chain from the history behind."""
        return await self._history.read_chain(project_id, response_id, now, reserve)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        """Read the items from the history behind."""
        return dict(await self._history.read_items(project_id, item_ids, now, reserve))

    async def save(self, response: StoredResponse) -> None:
        """End the run with this response, which is stored if its client asked for that.

        Raises StorageError when the database was away for long, or the conversation was taken over.
        """
        await self.commit(response.status, response.body, response if self._run.request.is_stored else None)

    async def commit(self, status: str, body: bytes, stored: StoredResponse | None) -> None:
        """End the run with its log, this response object, and the turn to be stored. Raises as `save` does."""
        self.began = True
        await self._event_log.drain()
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while not self.is_over:
            try:
                turn = None if stored is None else await self._turn(stored)
                self.is_lost = not await self._runs.end(
                    self._run, status, body, keep_seconds=self._keep_seconds, turn=turn
                )
            except StorageError as error:
                is_away = error.code == StorageError.default_code
                if not is_away:
                    # The conversation's lock is lost to another call; the response can still be saved.
                    self.conversation = None
                if is_away and asyncio.get_running_loop().time() <= deadline:
                    await asyncio.sleep(_RETRY_SECONDS)
                elif is_away or status not in _WITHOUT_TURN:
                    raise
            else:
                self.is_over = True
        self._wrote()

    async def _turn(self, response: StoredResponse) -> SaveResponse | SaveTurn:
        if self.conversation:
            return await self.conversation.saving(response)
        if response.is_large:
            return await self._compute_thread.run(response.size, SaveResponse.of, response)
        return SaveResponse.of(response)
