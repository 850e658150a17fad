"""The calls that wait for an account: a fair queue for each thing that can be served alike."""

from collections.abc import Callable, Iterator

from app.errors import ApiError
from app.fair_queue import FairQueue, Waiter
from app.upstream.choice import Wish
from app.upstream.lease import Lease


class WaitingCalls:
    """Queues of calls, one for what can be served alike; `count` is of all of them."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str | None], FairQueue[Wish, Lease]] = {}

    @property
    def count(self) -> int:
        """How many calls wait."""
        return sum(queue.count for queue in self._queues.values()) if self._queues else 0

    def has(self, wish: Wish) -> bool:
        """Whether others wait for the same."""
        return (wish.model, wish.only) in self._queues

    def wishes(self) -> Iterator[Wish]:
        """What they wait for, one wish of each queue."""
        firsts = [next(queue.in_turn(), None) for queue in self._queues.values()]
        self._forget_empty()
        return iter([waiter.wish for waiter in firsts if waiter is not None])

    def join(self, wish: Wish) -> Waiter[Wish, Lease]:
        """Stand in line."""
        queue = self._queues.get((wish.model, wish.only))
        if queue is None:
            queue = self._queues[wish.model, wish.only] = FairQueue()
        return queue.join(wish.project_id, wish)

    def leave(self, waiter: Waiter[Wish, Lease]) -> None:
        """Wait no longer. A lease that came too late for its call goes back."""
        queue = self._queues.get((waiter.wish.model, waiter.wish.only), FairQueue())
        late = queue.leave(waiter)
        self._forget_empty()
        if late is not None:
            late.end()

    def hand_out(self, take: Callable[[Wish], Lease | None], most: int) -> None:
        """Serve those whose turn it is, as many of each queue as `most` and as `take` has leases for."""
        for queue in [*self._queues.values()]:
            for _ in range(most):
                waiter = next(queue.in_turn(), None)
                lease = None if waiter is None else take(waiter.wish)
                if waiter is None or lease is None:
                    break
                queue.grant(waiter, lease)
        self._forget_empty()

    def give_up(self, wish: Wish, error: ApiError) -> None:
        """Nobody will serve this queue."""
        queue = self._queues.get((wish.model, wish.only))
        if queue is not None:
            queue.refuse_all(error)
        self._forget_empty()

    def _forget_empty(self) -> None:
        for key in [key for key, queue in self._queues.items() if not queue.count]:
            del self._queues[key]
