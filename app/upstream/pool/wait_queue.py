"""Queue the calls that wait for an account: a fair queue for each set of accounts that may serve a call."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from app.errors import ApiError
from app.runtime.fair_queue import FairQueue, Waiter
from app.settings.upstreams import Surface
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.selection import PoolRequest

_Key: TypeAlias = tuple[str, Surface, str | None, frozenset[str]]


def _key(request: PoolRequest) -> _Key:
    return request.model, request.surface, request.only, request.unfit


class WaitingCalls:
    """Queue waiting calls fairly, by model, surface, required account and unfit upstreams.

    No call waits where there are no `queues`.
    """

    def __init__(self) -> None:
        self.queues: dict[_Key, FairQueue[PoolRequest, Checkout]] = {}

    @property
    def count(self) -> int:
        """Return how many calls wait."""
        return sum(queue.count for queue in self.queues.values())

    def has(self, request: PoolRequest) -> bool:
        """Tell whether other calls wait for the same accounts."""
        return _key(request) in self.queues

    def requests(self) -> Iterator[PoolRequest]:
        """Return the first request of each queue."""
        firsts = [next(queue.in_turn(), None) for queue in self.queues.values()]
        self._forget_empty()
        return iter([waiter.item for waiter in firsts if waiter is not None])

    def join(self, request: PoolRequest) -> Waiter[PoolRequest, Checkout]:
        """Append a call to its queue."""
        queue = self.queues.get(_key(request))
        if queue is None:
            queue = self.queues[_key(request)] = FairQueue()
        return queue.join(request.project_id, request)

    def leave(self, waiter: Waiter[PoolRequest, Checkout]) -> None:
        """Remove a call from its queue. A checkout that was granted too late is ended."""
        queue = self.queues.get(_key(waiter.item), FairQueue())
        late = queue.leave(waiter)
        self._forget_empty()
        if late is not None:
            late.end()

    def hand_out(self, take: Callable[[PoolRequest], Checkout | None], most: int) -> None:
        """Serve the calls whose turn it is: of each queue at most `most`, and as many as `take` has checkouts for."""
        for queue in [*self.queues.values()]:
            for _ in range(most):
                waiter = next(queue.in_turn(), None)
                checkout = None if waiter is None else take(waiter.item)
                if waiter is None or checkout is None:
                    break
                queue.grant(waiter, checkout)
        self._forget_empty()

    def give_up(self, request: PoolRequest, error: ApiError) -> None:
        """Refuse every call of this queue."""
        queue = self.queues.get(_key(request))
        if queue is not None:
            queue.refuse_all(error)
        self._forget_empty()

    def _forget_empty(self) -> None:
        for key in [key for key, queue in self.queues.items() if not queue.count]:
            del self.queues[key]
