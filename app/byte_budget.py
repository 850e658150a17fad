"""The account of the bytes that a process holds for clients and upstreams; over it calls wait, then get a 503.

Counted are bodies taken in, histories, whole answers, and what waits to be written, where they are large. Plain calls
are far below what is counted, and pay nothing.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

from app.deadline import Deadline
from app.errors import OverloadedError
from app.fair_queue import FairQueue, Waiter

UNCOUNTED_BYTES = 64 * 1024
"""A call may hold so much without an entry in the account: it is what a connection's buffers take anyway."""

# Of the budget, what one project may hold beside others of its own calls.
_SHARE = 2
_MOST_WAITING = 1000
# When so much was held and nothing is any more, the allocator is asked to give it back.
_TRIMMED_BYTES = 16 * 1024 * 1024

Reserve: TypeAlias = Callable[[int], Awaitable[None]]
"""Called with a number of bytes before they are read. It may wait, and raises ApiError where they may not be."""


async def reserve_nothing(_size: int) -> None:
    """A `Reserve` for whoever's reads are small by nature."""


class _Holding:
    """What a project holds; `waiting` is the part of it that belongs to calls that wait for more."""

    __slots__ = ("bytes", "waiting")

    def __init__(self) -> None:
        self.bytes = 0
        self.waiting = 0

    @property
    def moving(self) -> int:
        """What will be given back without anybody being granted more."""
        return self.bytes - self.waiting


class Reservation:
    """The bytes that one call holds, as a context: they are given back at its end."""

    __slots__ = ("_asked", "_budget", "held", "project_id")

    def __init__(self, budget: "ByteBudget", project_id: str) -> None:
        self._budget = budget
        self._asked = 0
        self.project_id = project_id
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.shrink(0)

    async def add(self, size: int) -> None:
        """Hold so many bytes more, once there is room for them. Raises OverloadedError when there is none in time."""
        asked = self._asked + size
        if asked - self.held > UNCOUNTED_BYTES:
            await self._budget.take(self, asked - self.held)
        self._asked = asked

    def add_now(self, size: int) -> None:
        """The same for whoever does not wait. Raises OverloadedError."""
        asked = self._asked + size
        if asked - self.held > UNCOUNTED_BYTES:
            self._budget.take_now(self, asked - self.held)
        self._asked = asked

    def take_over(self, other: "Reservation") -> None:
        """Hold from now on what another one of the same project did."""
        self._asked, other._asked = self._asked + other._asked, 0  # noqa: SLF001 - one of its own kind
        self.held, other.held = self.held + other.held, 0

    def shrink(self, size: int) -> None:
        """Hold no more than this any longer."""
        if size < self._asked:
            self._asked = size
            kept = size if size > UNCOUNTED_BYTES else 0
            if kept < self.held:
                self._budget.give_back(self, self.held - kept)


class ByteBudget:
    """Grants reservations of up to `max_bytes` in all; a project's calls get half of that at most, while it has many.

    Invariant: a call is granted whatever it asks where nothing else is held, and one that holds some already where all
    else that is held belongs to calls that wait too: a large one is possible, and two never wait for each other. Those
    that hold some come first. A call waits no longer than `wait_seconds`. `trim` is called when much was held, and
    nothing is any more.
    """

    def __init__(self, max_bytes: int, wait_seconds: float = 0.0, *, trim: Callable[[], None] = lambda: None) -> None:
        self.max_bytes = max_bytes
        self._share = max_bytes // _SHARE
        self._wait_seconds = wait_seconds
        self._trim = trim
        self._all = _Holding()
        self._most = 0
        self._projects: dict[str, _Holding] = {}
        # What is wished: the reservation, and by how much it is to grow. Of those that hold nothing yet, and of others.
        self._beginning = FairQueue[tuple[Reservation, int], None](self.held_by)
        self._growing = FairQueue[tuple[Reservation, int], None](self.held_by)

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._all.bytes

    def held_by(self, project_id: str) -> int:
        """Bytes that this project holds now."""
        holding = self._projects.get(project_id)
        return 0 if holding is None else holding.bytes

    def reservation(self, project_id: str) -> Reservation:
        """A context for one call of this project, which holds nothing yet."""
        return Reservation(self, project_id)

    def take_now(self, reservation: Reservation, size: int) -> None:
        """Add so much to what the reservation holds, if that can be now. Raises OverloadedError."""
        if not self._take(reservation, size):
            raise self._full()

    async def take(self, reservation: Reservation, size: int) -> None:
        """Add so much to what the reservation holds, once there is room. Raises OverloadedError."""
        if self._take(reservation, size):
            return
        queue = self._queue_of(reservation)
        if self._wait_seconds <= 0 or queue.count >= _MOST_WAITING:
            raise self._full()
        waiter = queue.join(reservation.project_id, (reservation, size))
        self._wait(reservation, 1)
        # It waits now itself: perhaps all do.
        self._hand_out()
        try:
            with Deadline(self._wait_seconds).block():
                await waiter.granted
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise

    def give_back(self, reservation: Reservation, size: int) -> None:
        """Take so much from what the reservation holds."""
        self._hold(reservation, -size)
        self._hand_out()
        if not self._all.bytes and self._most >= _TRIMMED_BYTES:
            self._most = 0
            self._trim()

    def _take(self, reservation: Reservation, size: int) -> bool:
        """Add so much, if nobody of the same project came before and there is room."""
        if self._queue_of(reservation).count_of(reservation.project_id) or not self._fits(
            reservation, size, moving=reservation.held
        ):
            return False
        self._hold(reservation, size)
        return True

    def _queue_of(self, reservation: Reservation) -> FairQueue[tuple[Reservation, int], None]:
        return self._growing if reservation.held else self._beginning

    def _fits(self, reservation: Reservation, size: int, *, moving: int = 0) -> bool:
        """Whether it may grow by this; `moving` is what it holds itself, where it does not wait."""
        mine = self._projects.get(reservation.project_id) or _Holding()
        return all(
            holding.bytes + size <= most
            or holding.bytes == reservation.held
            or (reservation.held > 0 and holding.moving == moving)
            for holding, most in ((mine, self._share), (self._all, self.max_bytes))
        )

    def _hand_out(self) -> None:
        """Serve those whose turn it is, as many as there is room for."""
        while (self._growing.count and self._serve(self._growing)) or (
            self._beginning.count and self._serve(self._beginning)
        ):
            pass

    def _serve(self, queue: FairQueue[tuple[Reservation, int], None]) -> bool:
        """Serve one; False when there is room for none."""
        for waiter in queue.in_turn():
            reservation, size = waiter.wish
            if self._fits(reservation, size):
                self._wait(reservation, -1)
                queue.grant(waiter, None)
                self._hold(reservation, size)
                return True
        return False

    def _leave(self, waiter: Waiter[tuple[Reservation, int], None]) -> None:
        reservation, size = waiter.wish
        was_granted = waiter.granted.done() and not waiter.granted.cancelled()
        self._queue_of(reservation).leave(waiter)
        if was_granted:
            self.give_back(reservation, size)
        else:
            self._wait(reservation, -1)
            self._hand_out()

    def _hold(self, reservation: Reservation, size: int) -> None:
        reservation.held += size
        self._all.bytes += size
        self._most = max(self._most, self._all.bytes)
        holding = self._projects.setdefault(reservation.project_id, _Holding())
        holding.bytes += size
        if not holding.bytes:
            del self._projects[reservation.project_id]

    def _wait(self, reservation: Reservation, sign: int) -> None:
        """Note that the call that holds this waits for more, or does so no longer."""
        if reservation.held:
            self._all.waiting += sign * reservation.held
            self._projects[reservation.project_id].waiting += sign * reservation.held

    def _full(self) -> OverloadedError:
        return OverloadedError(
            "The gateway holds as many bytes as it may for calls that are under way. Please retry in a few seconds.",
            headers={"retry-after": "2"},
        )
