"""Define where a call finds earlier turns and leaves its own, and resolve the items that its input names."""

import time
from collections.abc import Collection, Mapping
from typing import Protocol

from app.runtime.byte_budget import Reserve
from app.state.items.references import References, items_in_chain
from app.state.records import Chain, Item, StoredResponse
from app.wire import error_messages


class History(Protocol):
    """Read a project's earlier turns, and save the next. Times are unix seconds; failures are StorageErrors."""

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """Read the response and its ancestors; None when one of them is not there, or not the project's.

        `reserve` is called before much is read, and what it raises is raised.
        """

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> Mapping[str, Item]:
        """Read the items of these ids that are there; `reserve` as in `read_chain`."""

    async def save(self, response: StoredResponse) -> None:
        """Save a finished turn: it can be continued once this returns."""


async def resolve(
    history: History, project_id: str, named: References, reserve: Reserve, chain: Chain | None = None
) -> Mapping[str, Item]:
    """Find the items that an input names: in the chain that it continues, then among this project's others.

    Raises NotFoundError for an item that the input needs and that is not there.
    """
    resolved: Mapping[str, Item] = items_in_chain(chain, named.ids)
    if missing := named.ids - resolved.keys():
        resolved = {**resolved, **await history.read_items(project_id, missing, int(time.time()), reserve)}
    for item_id in sorted(named.needs - resolved.keys()):
        raise error_messages.item_not_found(item_id)
    return resolved
