"""The end of a run: its log, its turn and its row, in one commit that only its owner can make."""

import asyncio
from collections.abc import Callable, Collection

from app.byte_budget import Reserve
from app.errors import StorageError
from app.offload import Offload
from app.relay.conversation import HeldConversation
from app.relay.journal import Journal, Unheard
from app.relay.memory import Memory
from app.state.records import Chain, Item, StoredResponse
from app.state.runs import Run
from app.storage.hold_store import SaveTurn
from app.storage.response_store import SaveResponse
from app.storage.run_store import RunStore

# A database that is away for longer loses what was generated; whoever finds the run ends it as failed.
_PATIENCE_SECONDS = 300.0
_RETRY_SECONDS = 0.5
# What ends so leaves nothing in its conversation, and does not need to have it.
_SAID_NOTHING = frozenset({"cancelled", "failed"})


class Ending:
    """The memory in which a run's turn is settled.

    `conversation` is the one that the run holds. `began` says that the end is being committed: it can no longer be
    another. `is_over`: this process has nothing more to say of the run, because it has ended, or is somebody else's,
    and then it `is_lost`.
    """

    def __init__(
        self,
        runs: RunStore,
        memory: Memory,
        run: Run,
        journal: Journal | Unheard,
        *,
        keep_seconds: int,
        wrote: Callable[[], None],
        offload: Offload,
    ) -> None:
        self._offload = offload
        self._runs = runs
        self._memory = memory
        self._run = run
        self._journal = journal
        self._keep_seconds = keep_seconds
        self._wrote = wrote
        self.conversation: HeldConversation | None = None
        self.began = False
        self.is_over = False
        self.is_lost = False

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """The memory's."""
        return await self._memory.read_chain(project_id, response_id, now, reserve)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        """The memory's."""
        return dict(await self._memory.read_items(project_id, item_ids, now, reserve))

    async def save(self, response: StoredResponse) -> None:
        """End the run with this response, which is stored if its client asked for that.

        Raises StorageError when the database was away for long, or the conversation was taken over.
        """
        await self.commit(response.status, response.body, response if self._run.order.is_stored else None)

    async def commit(self, status: str, body: bytes, stored: StoredResponse | None) -> None:
        """End the run with what it has said, this response object, and what is to be stored. Raises as `save` does."""
        self.began = True
        await self._journal.drain()
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
                    # The conversation is somebody else's by now; the response is not.
                    self.conversation = None
                if is_away and asyncio.get_running_loop().time() <= deadline:
                    await asyncio.sleep(_RETRY_SECONDS)
                elif is_away or status not in _SAID_NOTHING:
                    raise
            else:
                self.is_over = True
        self._wrote()

    async def _turn(self, response: StoredResponse) -> SaveResponse | SaveTurn:
        if self.conversation:
            return await self.conversation.saving(response)
        if response.is_large:
            return await self._offload.run(response.size, SaveResponse.of, response)
        return SaveResponse.of(response)
