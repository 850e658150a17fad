"""What a call remembers and leaves behind, whoever keeps it. Must not know where that is."""

import time
from collections.abc import Collection, Mapping
from typing import Protocol

from app.byte_budget import Reserve
from app.state.records import Chain, Item, StoredResponse
from app.state.references import References, standing
from app.wire import wording


class Memory(Protocol):
    """A project's earlier turns, and the place for the next. Times are unix seconds; what fails is a StorageError."""

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """The response and its ancestors; None when it is not there to see, or an ancestor is gone.

        `reserve` is called before much is read, and what it raises is raised.
        """

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> Mapping[str, Item]:
        """Those of these items that are there to see; `reserve` as above."""

    async def save(self, response: StoredResponse) -> None:
        """Keep a finished turn: it can be continued once this returns."""


async def resolve(
    memory: Memory, project_id: str, named: References, reserve: Reserve, chain: Chain | None = None
) -> Mapping[str, Item]:
    """The items that an input names, out of the chain that it continues, and of this project's others.

    Raises NotFoundError for one that it needs and that is not there to see.
    """
    resolved: Mapping[str, Item] = standing(chain, named.ids)
    if missing := named.ids - resolved.keys():
        resolved = {**resolved, **await memory.read_items(project_id, missing, int(time.time()), reserve)}
    for item_id in sorted(named.needs - resolved.keys()):
        raise wording.item_not_found(item_id)
    return resolved
