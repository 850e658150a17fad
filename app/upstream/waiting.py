"""The calls that wait for an account: in turn among projects, in one in order. Must not know why there is none."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field

from app.errors import ApiError
from app.upstream.choice import Wish
from app.upstream.lease import Lease


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits. Its `lease` comes with its turn."""

    wish: Wish
    lease: "asyncio.Future[Lease]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class WaitingCalls:
    """Lines of calls, one for what can be served alike; `count` is of all of them."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str | None], OrderedDict[str, deque[Waiter]]] = {}
        self.count = 0

    def has(self, wish: Wish) -> bool:
        """Whether others wait for the same."""
        return (wish.model, wish.only) in self._lines

    def wishes(self) -> Iterator[Wish]:
        """What they wait for, one wish of each line."""
        return iter([next(iter(line.values()))[0].wish for line in self._lines.values()])

    def join(self, wish: Wish) -> Waiter:
        """Stand in line."""
        waiter = Waiter(wish)
        line = self._lines.setdefault((wish.model, wish.only), OrderedDict())
        line.setdefault(wish.project_id, deque()).append(waiter)
        self.count += 1
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer. A lease that came too late for its call goes back."""
        # Who is cancelled while it waits has its future cancelled too.
        if waiter.lease.cancel() or waiter.lease.cancelled():
            self._remove(waiter)
        elif waiter.lease.exception() is None:
            waiter.lease.result().end()

    def hand_out(self, take: Callable[[Wish], Lease | None], most: int) -> None:
        """Serve those whose turn it is, as many of each line as `most` and as `take` has leases for."""
        for key in [*self._lines]:
            for _ in range(most):
                waiter = self._next(key)
                lease = None if waiter is None else take(waiter.wish)
                if waiter is None or lease is None:
                    break
                self._lines[key].move_to_end(waiter.wish.project_id)
                self._remove(waiter)
                waiter.lease.set_result(lease)

    def give_up(self, wish: Wish, error: ApiError) -> None:
        """Nobody will serve this line."""
        for queue in [*self._lines.get((wish.model, wish.only), {}).values()]:
            for waiter in [*queue]:
                self._remove(waiter)
                if not waiter.lease.cancelled():
                    waiter.lease.set_exception(copy(error))

    def _next(self, key: tuple[str, str | None]) -> Waiter | None:
        """The waiter whose turn it is; those that have been cancelled are passed over."""
        while key in self._lines:
            waiter = next(iter(self._lines[key].values()))[0]
            if not waiter.lease.cancelled():
                return waiter
            self._remove(waiter)
        return None

    def _remove(self, waiter: Waiter) -> None:
        key = (waiter.wish.model, waiter.wish.only)
        line = self._lines.get(key, OrderedDict())
        queue = line.get(waiter.wish.project_id, deque())
        if waiter not in queue:
            return
        queue.remove(waiter)
        self.count -= 1
        if not queue:
            del line[waiter.wish.project_id]
        if not line:
            del self._lines[key]
