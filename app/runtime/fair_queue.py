"""Queue waiting calls fairly among projects: projects take turns, and within a project the first comes first.

Calls wait in such a queue for an upstream account, for a slot in this process, and for bytes of its budget.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.errors import ApiError

Item = TypeVar("Item")
Grant = TypeVar("Grant")

# One slot in so many is kept free of a project that has all others.
_KEPT_FREE = 8


def share(slots: int) -> int:
    """Return how many of these slots one project may have: always one, and of several not all."""
    return max(1, slots - max(1, slots // _KEPT_FREE))


@dataclass(slots=True, eq=False)
class Waiter(Generic[Item, Grant]):
    """Wait for this item as a call of this project. The grant comes with its turn."""

    project_id: str
    item: Item
    granted: "asyncio.Future[Grant]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairQueue(Generic[Item, Grant]):
    """Queue calls: first those of the project that holds the least; among equals projects take turns.

    `held_by` returns what a project holds already. `count` is how many wait.
    """

    def __init__(self, held_by: Callable[[str], int] | None = None) -> None:
        self._held_by = held_by
        self._lines: OrderedDict[str, deque[Waiter[Item, Grant]]] = OrderedDict()
        self.count = 0

    def count_of(self, project_id: str) -> int:
        """Return how many calls of this project wait."""
        return len(self._lines.get(project_id, ()))

    def join(self, project_id: str, item: Item) -> Waiter[Item, Grant]:
        """Wait, behind the project's other calls."""
        waiter = Waiter[Item, Grant](project_id, item)
        self._lines.setdefault(project_id, deque()).append(waiter)
        self.count += 1
        return waiter

    def in_turn(self) -> Iterator[Waiter[Item, Grant]]:
        """Yield the first waiter of each project, in the order of their turns. Cancelled ones are removed."""
        projects = list(self._lines)
        if self._held_by is not None:
            projects.sort(key=self._held_by)
        for project_id in projects:
            while line := self._lines.get(project_id):
                if not line[0].granted.cancelled():
                    yield line[0]
                    break
                self._remove(line[0])

    def grant(self, waiter: Waiter[Item, Grant], grant: Grant) -> None:
        """Give the waiter its grant: the project's next waiter comes after those of all others."""
        self._lines.move_to_end(waiter.project_id)
        self._remove(waiter)
        waiter.granted.set_result(grant)

    def refuse_all(self, error: ApiError) -> None:
        """Raise this error in all waiters."""
        for line in [*self._lines.values()]:
            for waiter in [*line]:
                self._remove(waiter)
                if not waiter.granted.cancelled():
                    waiter.granted.set_exception(copy(error))

    def leave(self, waiter: Waiter[Item, Grant]) -> Grant | None:
        """Wait no longer. Returns what was granted too late, for the caller to release."""
        # A task that is cancelled while it waits has its future cancelled too.
        if waiter.granted.cancel() or waiter.granted.cancelled():
            self._remove(waiter)
            return None
        return waiter.granted.result() if waiter.granted.exception() is None else None

    def _remove(self, waiter: Waiter[Item, Grant]) -> None:
        line = self._lines.get(waiter.project_id, deque())
        if waiter not in line:
            return
        line.remove(waiter)
        self.count -= 1
        if not line:
            del self._lines[waiter.project_id]
