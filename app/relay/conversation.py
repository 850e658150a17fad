"""The conversations that calls of this process take part in: read, held while a turn is made, extended, let go.

Must not know how a hold is kept. A run in the background holds one as a foreground call does.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from app.byte_budget import Reserve
from app.errors import StorageError
from app.offload import Offload
from app.relay.memory import Memory
from app.state.records import Chain, Item, StoredResponse
from app.storage.hold_store import Hold, HoldStore, SaveTurn

_log = structlog.get_logger("antiphon.conversations")


class OpenConversation:
    """A conversation as the memory of one call that only reads it. What is not in it is the other memory's."""

    def __init__(self, store: HoldStore, memory: Memory, key: int) -> None:
        self._store = store
        self._memory = memory
        self._key = key
        self._last_turn_key = 0
        self._standing: frozenset[str] = frozenset()

    async def read_history(self, reserve: Reserve) -> Chain | None:
        """What was said in it so far, as the chain that the new turn continues; None for nothing."""
        turns = await self._store.read_turns(self._key, reserve)
        if not turns:
            return None
        self._last_turn_key = turns[-1][0]
        self._standing = frozenset(item_id for _, turn in turns for item_id in turn.outline.ids)
        # Its rows are the conversation's: the new turn's response continues no response.
        return Chain(None, tuple([turn for _, turn in turns]), is_stored=False)

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """The other memory's."""
        return await self._memory.read_chain(project_id, response_id, now, reserve)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        """Those that stand in the conversation, and of the others those that the other memory has."""
        own = await self._store.read_items(self._key, item_ids, reserve)
        others = set(item_ids) - own.keys()
        return {**await self._memory.read_items(project_id, others, now, reserve), **own} if others else own

    async def save(self, response: StoredResponse) -> None:
        """Keep the turn in the other memory alone."""
        await self._memory.save(response)

    async def release(self) -> None:
        """End the call's part in it; in every way out."""


@dataclass(frozen=True, slots=True)
class _Holds:
    """The holds of this process, and those of them that it is done with and could not end."""

    live: set[Hold] = field(default_factory=set)
    owed: set[Hold] = field(default_factory=set)


class HeldConversation(OpenConversation):
    """A conversation that nobody else writes to meanwhile: the call's turn is appended where its response is kept."""

    def __init__(self, store: HoldStore, memory: Memory, hold: Hold, holds: _Holds, offload: Offload) -> None:
        super().__init__(store, memory, hold.key)
        self._offload = offload
        self._hold = hold
        self._holds = holds
        holds.live.add(hold)

    async def save(self, response: StoredResponse) -> None:
        """Commit the response, its place in the conversation and the end of the hold at once.

        Raises StorageError, also when the hold was lost to somebody else: then nothing is kept.
        """
        await self._store.save(await self.saving(response))
        self._holds.live.discard(self._hold)

    async def saving(self, response: StoredResponse) -> SaveTurn:
        """The write that `save` makes, for whoever makes it a part of one of their own. Raises StorageError."""
        repeated = self._standing.intersection([item.id for item in response.items])
        standing = await self._store.read_items(self._hold.key, repeated) if repeated else {}
        told = (response, self._hold, self._last_turn_key, standing)
        return await self._offload.run(response.size, SaveTurn.of, *told) if response.is_large else SaveTurn.of(*told)

    async def release(self) -> None:
        """End the hold, unless `save` did. Never fails: what cannot be ended now is ended later."""
        if self._hold not in self._holds.live:
            return
        self._holds.live.discard(self._hold)
        try:
            await self._store.release(self._hold)
        except StorageError as error:
            self._holds.owed.add(self._hold)
            _log.warning("a hold was not ended", reason=error.message)


class Conversations:
    """Opens conversations, and keeps the leases of those that are held here alive.

    `lease_seconds` is how long a hold outlives the process that had it, by the database's clock.
    """

    def __init__(self, store: HoldStore, offload: Offload, lease_seconds: int = 30) -> None:
        self._store = store
        self._offload = offload
        self._lease_seconds = lease_seconds
        self._holds = _Holds()

    async def open(self, project_id: str, conversation_id: str, memory: Memory) -> OpenConversation:
        """The conversation for a call that leaves nothing in it. Raises NotFoundError."""
        return OpenConversation(self._store, memory, await self._store.find(project_id, conversation_id))

    async def hold(self, project_id: str, conversation_id: str, memory: Memory, holder: str) -> HeldConversation:
        """The same for one that will append its turn; `holder` is a name of this call or run alone.

        Whoever has it already under this name gets it again, and so does the next owner of a run (`holder_of`). Raises
        NotFoundError, and InvalidRequestError (`conversation_locked`) while somebody else holds it. It has to be
        released, in every way out.
        """
        hold = await self._store.acquire(project_id, conversation_id, holder, self._lease_seconds)
        return HeldConversation(self._store, memory, hold, self._holds, self._offload)

    @property
    def extend_seconds(self) -> float:
        """How often the holds of this process have to be extended: three times a lease."""
        return self._lease_seconds / 3

    async def extend(self) -> None:
        """Extend every hold of this process, and end those that could not be ended before. Raises StorageError."""
        if self._holds.live:
            await self._store.extend(tuple(self._holds.live), self._lease_seconds)
        for hold in tuple(self._holds.owed):
            await self._store.release(hold)
            self._holds.owed.discard(hold)
