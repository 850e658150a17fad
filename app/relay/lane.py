"""What a WebSocket connection remembers: of each lane the latest response, where that was not to be stored.

Must not know how turns arrive, nor where stored ones are kept.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced

from msgspec.structs import replace

from app.byte_budget import Reservation, Reserve
from app.errors import OverloadedError
from app.relay.memory import Memory
from app.state.packing import pack, without
from app.state.records import Chain, Item, StoredResponse, Turn
from app.state.replay import settled


@dataclass(frozen=True, slots=True)
class Latest:
    """A response that is nowhere stored: its own turn and those before it which are not either, oldest first.

    `stored_parent` is the stored response that they continue, if any. It is read anew for each continuation, and had
    `stored_items` with all before it when the latest turn was made.
    """

    response_id: str
    stored_parent: str | None
    turns: tuple[Turn, ...]
    stored_items: int = 0

    @property
    def size(self) -> int:
        """What it weighs, in bytes."""
        return sum(len(turn.content) + len(turn.outline.items) + len(turn.outline.withheld) for turn in self.turns)


class Lanes:
    """The lanes of one connection over the store behind it. `max_bytes` bounds what all of them remember together.

    It is held by this reservation; where there is no room for it, it is forgotten.
    """

    def __init__(self, store: Memory, max_bytes: int, held: Reservation) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._held = held
        # The one that was kept last is at the end.
        self._latest: dict[str | None, Latest] = {}

    def memory(self, lane: str | None, parent_id: str | None, *, store: bool) -> "LaneMemory":
        """The memory of one turn on this lane, which continues this response; `store` is what its client asked."""
        return LaneMemory(self, self._store, lane, parent_id, is_stored=store)

    def find(self, response_id: str) -> Latest | None:
        """The response, if it is any lane's latest: a lane may fork from another."""
        return next((latest for latest in self._latest.values() if latest.response_id == response_id), None)

    def keep(self, lane: str | None, latest: Latest) -> None:
        """Remember this as the lane's latest. Beyond the limit the largest are forgotten, itself included.

        So a lane that takes no more than its share of the limit is never forgotten for another's sake.
        """
        self.forget(lane)
        self._latest[lane] = latest
        sizes = {each: known.size for each, known in self._latest.items()}
        size = sum(sizes.values())
        while size > self._max_bytes:
            largest = max(sizes, key=sizes.__getitem__)
            size -= sizes.pop(largest)
            del self._latest[largest]
        if lane in self._latest:
            try:
                self._held.add_now(latest.size)
            except OverloadedError:
                self.forget(lane)
        self._held.shrink(size)

    def forget(self, lane: str | None) -> None:
        """The lane has gone on, to what this connection need not remember."""
        if self._latest.pop(lane, None) is not None:
            self._held.shrink(sum(each.size for each in self._latest.values()))

    def fail(self, lane: str | None, parent_id: str | None) -> None:
        """A turn on this lane has failed: what it continued is forgotten, unless that is another lane's."""
        latest = self._latest.get(lane)
        if latest is not None and latest.response_id == parent_id:
            self.forget(lane)


class LaneMemory:
    """The memory of one turn: what its connection remembers, then the store."""

    def __init__(
        self, lanes: Lanes, store: Memory, lane: str | None, parent_id: str | None, *, is_stored: bool
    ) -> None:
        self._lanes = lanes
        self._store = store
        self._lane = lane
        self._parent_id = parent_id
        self._is_stored = is_stored
        self._stored_parent: str | None = parent_id
        self._turns: tuple[Turn, ...] = ()
        self._stored_items = 0

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """The response and its ancestors, from wherever they are."""
        latest = self._lanes.find(response_id)
        if latest is None:
            chain = await self._store.read_chain(project_id, response_id, now, reserve)
            self._stored_items = _items_of(chain)
            return chain
        await reserve(latest.size)
        self._stored_parent, self._turns = latest.stored_parent, latest.turns
        if latest.stored_parent is None:
            return Chain(None, latest.turns, is_stored=False)
        before = await self._store.read_chain(project_id, latest.stored_parent, now, reserve)
        self._stored_items = _items_of(before)
        if self._stored_items != latest.stored_items:
            # Some were deleted from a conversation: what was made of them is not said again.
            self._turns = tuple([without(turn, turn.outline.compactions) for turn in latest.turns])
        return before and Chain(before.key, (*before.turns, *self._turns), is_stored=False)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> Mapping[str, Item]:
        """Items of stored turns."""
        return await self._store.read_items(project_id, item_ids, now, reserve)

    async def save(self, response: StoredResponse) -> None:
        """Keep the turn in the store, or else as the lane's latest, unless it failed."""
        # Whatever becomes of this turn: on success its lane goes on from it, and on failure from nothing.
        self._lanes.fail(self._lane, self._parent_id)
        if self._is_stored:
            await self._store.save(self._with_history(response))
        if response.status == "failed":
            return
        if self._is_stored:
            self._lanes.forget(self._lane)
        else:
            turn = pack(response.status, response.account, response.items)
            latest = Latest(response.id, self._stored_parent, (*self._turns, turn), self._stored_items)
            self._lanes.keep(self._lane, latest)

    def _with_history(self, response: StoredResponse) -> StoredResponse:
        """The turn, with those before it that were never stored as input of its own: it hangs on no other."""
        history = settled(self._turns, response.items)
        # What was said is input now, but for a compaction: in an answer it stands for all that is before it.
        given = [item if item.type == "compaction" else replace(item, is_output=False) for item in history]
        return replaced(response, items=(*given, *response.items)) if given else response


def _items_of(chain: Chain | None) -> int:
    return sum([len(turn.outline.ids) for turn in chain.turns]) if chain else 0
