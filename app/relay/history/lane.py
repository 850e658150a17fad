"""Keep the latest response of each lane of a WebSocket connection in this process, where it was not to be stored."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced

from msgspec.structs import replace

from app.errors import OverloadedError
from app.relay.history.base import History
from app.runtime.byte_budget import Reservation, Reserve
from app.state.items.history_input import without_open_calls
from app.state.items.turn_packing import pack, without
from app.state.records import Chain, Item, StoredResponse, Turn


@dataclass(frozen=True, slots=True)
class UnstoredResponse:
    """Hold a response that is not stored: its own turn and the unstored turns before it, oldest first.

    `stored_parent` is the stored response that they continue, if any. It is read anew for each continuation;
    `stored_items` is how many items it and all before it had when the latest turn was made.
    """

    response_id: str
    stored_parent: str | None
    turns: tuple[Turn, ...]
    stored_items: int = 0

    @property
    def size(self) -> int:
        """Return the bytes of its turns."""
        return sum(len(turn.content) + len(turn.outline.items) + len(turn.outline.withheld) for turn in self.turns)


class Lanes:
    """Hold the lanes of one connection over the store behind them, in `max_bytes` together.

    The bytes are held by this reservation; where there is no room for a lane, it is forgotten.
    """

    def __init__(self, store: History, max_bytes: int, held: Reservation) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._held = held
        # The lane that was set last is at the end.
        self._latest: dict[str | None, UnstoredResponse] = {}

    def history(self, lane: str | None, parent_id: str | None, *, store: bool) -> "LaneHistory":
        """Return the history of a turn on this lane that continues this response; `store` is what its client asked."""
        return LaneHistory(self, self._store, lane, parent_id, is_stored=store)

    def find(self, response_id: str) -> UnstoredResponse | None:
        """Find the response, if it is any lane's latest: a lane may fork from another."""
        return next((latest for latest in self._latest.values() if latest.response_id == response_id), None)

    def keep(self, lane: str | None, latest: UnstoredResponse) -> None:
        """Hold this as the lane's latest. Over the limit the largest are forgotten, this one included.

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
        """Forget the lane's latest: the lane has gone on to a response that this connection need not hold."""
        if self._latest.pop(lane, None) is not None:
            self._held.shrink(sum(each.size for each in self._latest.values()))

    def fail(self, lane: str | None, parent_id: str | None) -> None:
        """Forget what a failed turn on this lane continued, unless that is another lane's latest."""
        latest = self._latest.get(lane)
        if latest is not None and latest.response_id == parent_id:
            self.forget(lane)


class LaneHistory:
    """Read the history of one turn from its connection's lanes, then from the store."""

    def __init__(
        self, lanes: Lanes, store: History, lane: str | None, parent_id: str | None, *, is_stored: bool
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
        """Read the response and its ancestors, from the lanes and the store."""
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
            # Items were deleted from the conversation: compactions of them are not repeated.
            self._turns = tuple([without(turn, turn.outline.compactions) for turn in latest.turns])
        return before and Chain(before.key, (*before.turns, *self._turns), is_stored=False)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> Mapping[str, Item]:
        """Read items of stored turns."""
        return await self._store.read_items(project_id, item_ids, now, reserve)

    async def save(self, response: StoredResponse) -> None:
        """Save the turn in the store, or else as the lane's latest, unless it failed."""
        # In any case: on success the lane continues from this turn, on failure from nothing.
        self._lanes.fail(self._lane, self._parent_id)
        if self._is_stored:
            await self._store.save(self._with_history(response))
        if response.status == "failed":
            return
        if self._is_stored:
            self._lanes.forget(self._lane)
        else:
            turn = pack(response.status, response.account, response.items)
            latest = UnstoredResponse(response.id, self._stored_parent, (*self._turns, turn), self._stored_items)
            self._lanes.keep(self._lane, latest)

    def _with_history(self, response: StoredResponse) -> StoredResponse:
        """Prepend the unstored turns to the input of a turn that is stored: it continues no stored response."""
        history = without_open_calls(self._turns, response.items)
        # Earlier output is input now, except for a compaction: in an answer it stands for all that is before it.
        given = [item if item.type == "compaction" else replace(item, is_output=False) for item in history]
        return replaced(response, items=(*given, *response.items)) if given else response


def _items_of(chain: Chain | None) -> int:
    return sum([len(turn.outline.ids) for turn in chain.turns]) if chain else 0
