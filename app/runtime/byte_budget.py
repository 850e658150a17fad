"""Reserve the bytes that a process holds for clients and upstreams; over the budget calls wait, then get a 503.

Counted are request bodies, histories, whole answers, and what waits to be written, where they are large. Plain calls
are far below what is counted, and cost nothing.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

from app.errors import OverloadedError
from app.runtime.deadline import Deadline
from app.runtime.fair_queue import FairQueue, Waiter

UNCOUNTED_BYTES = 64 * 1024
"""A call may hold so much uncounted: a connection's buffers take as much anyway."""

# A project's calls together may hold one part in so many of the budget.
_SHARE = 2
_MOST_WAITING = 1000
# When so much was reserved and nothing is any more, the allocator returns free memory to the system.
_TRIMMED_BYTES = 16 * 1024 * 1024

Reserve: TypeAlias = Callable[[int], Awaitable[None]]
"""Called with a number of bytes before they are read. It may wait, and raises ApiError where there is no room."""


async def reserve_nothing(_size: int) -> None:
    """Reserve nothing, for reads that are small by nature."""


class _Holding:
    """Count the bytes of a project; `waiting` is the part that belongs to calls that wait for more."""

    __slots__ = ("bytes", "waiting")

    def __init__(self) -> None:
        self.bytes = 0
        self.waiting = 0

    @property
    def moving(self) -> int:
        """Return the bytes that will be released without any further grant."""
        return self.bytes - self.waiting


class Reservation:
    """Hold the reserved bytes of one call, as a context: they are released at its end."""

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
        """Reserve so many more bytes, once there is room for them. Raises OverloadedError without room in time."""
        asked = self._asked + size
        if asked - self.held > UNCOUNTED_BYTES:
            await self._budget.take(self, asked - self.held)
        self._asked = asked

    def add_now(self, size: int) -> None:
        """Reserve so many more bytes without waiting. Raises OverloadedError."""
        asked = self._asked + size
        if asked - self.held > UNCOUNTED_BYTES:
            self._budget.take_now(self, asked - self.held)
        self._asked = asked

    def take_over(self, other: "Reservation") -> None:
        """Move all bytes of another reservation of the same project here."""
        self._asked, other._asked = self._asked + other._asked, 0  # noqa: SLF001 - one of its own kind
        self.held, other.held = self.held + other.held, 0

    def shrink(self, size: int) -> None:
        """Release all bytes over this size."""
        if size < self._asked:
            self._asked = size
            kept = size if size > UNCOUNTED_BYTES else 0
            if kept < self.held:
                self._budget.give_back(self, self.held - kept)


class ByteBudget:
    """Grant reservations of up to `max_bytes` in all; one project's calls get half of that, except for large calls.

    Invariant: a call is granted whatever it asks where nothing else is reserved; so is a call with bytes where all
    other bytes belong to calls that wait too: a large call is possible, and two calls never wait for each other. Calls
    with bytes come first. A call waits no longer than `wait_seconds`. `trim` is called when much was reserved, and
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
        # Reservations that wait, with the bytes to add: those without bytes yet, and those with some.
        self._beginning = FairQueue[tuple[Reservation, int], None](self.held_by)
        self._growing = FairQueue[tuple[Reservation, int], None](self.held_by)

    @property
    def held(self) -> int:
        """Return the bytes that are reserved now."""
        return self._all.bytes

    def held_by(self, project_id: str) -> int:
        """Return the bytes that this project has reserved now."""
        holding = self._projects.get(project_id)
        return 0 if holding is None else holding.bytes

    def reservation(self, project_id: str) -> Reservation:
        """Return a context for one call of this project, which has reserved nothing yet."""
        return Reservation(self, project_id)

    def take_now(self, reservation: Reservation, size: int) -> None:
        """Add so much to the reservation, if there is room now. Raises OverloadedError."""
        if not self._take(reservation, size):
            raise self._full()

    async def take(self, reservation: Reservation, size: int) -> None:
        """Add so much to the reservation, once there is room. Raises OverloadedError."""
        if self._take(reservation, size):
            return
        queue = self._queue_of(reservation)
        if self._wait_seconds <= 0 or queue.count >= _MOST_WAITING:
            raise self._full()
        waiter = queue.join(reservation.project_id, (reservation, size))
        self._wait(reservation, 1)
        # This call waits now too: perhaps all do, and then one is granted.
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
        """Release so much of the reservation."""
        self._hold(reservation, -size)
        self._hand_out()
        if not self._all.bytes and self._most >= _TRIMMED_BYTES:
            self._most = 0
            self._trim()

    def _take(self, reservation: Reservation, size: int) -> bool:
        """Add so much, if no call of the same project waits and there is room."""
        if self._queue_of(reservation).count_of(reservation.project_id) or not self._fits(
            reservation, size, moving=reservation.held
        ):
            return False
        self._hold(reservation, size)
        return True

    def _queue_of(self, reservation: Reservation) -> FairQueue[tuple[Reservation, int], None]:
        return self._growing if reservation.held else self._beginning

    def _fits(self, reservation: Reservation, size: int, *, moving: int = 0) -> bool:
        """Tell whether the reservation may grow by this; `moving` is its own bytes, where it does not wait."""
        mine = self._projects.get(reservation.project_id) or _Holding()
        return all(
            holding.bytes + size <= most
            or holding.bytes == reservation.held
            or (reservation.held > 0 and holding.moving == moving)
            for holding, most in ((mine, self._share), (self._all, self.max_bytes))
        )

    def _hand_out(self) -> None:
        """Grant waiting calls in turn, as many as there is room for."""
        while (self._growing.count and self._serve(self._growing)) or (
            self._beginning.count and self._serve(self._beginning)
        ):
            pass

    def _serve(self, queue: FairQueue[tuple[Reservation, int], None]) -> bool:
        """Grant one waiting call of this queue; False when there is room for none."""
        for waiter in queue.in_turn():
            reservation, size = waiter.item
            if self._fits(reservation, size):
                self._wait(reservation, -1)
                queue.grant(waiter, None)
                self._hold(reservation, size)
                return True
        return False

    def _leave(self, waiter: Waiter[tuple[Reservation, int], None]) -> None:
        reservation, size = waiter.item
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
        """Count the bytes of a call that begins (1) or ends (-1) to wait for more."""
        if reservation.held:
            self._all.waiting += sign * reservation.held
            self._projects[reservation.project_id].waiting += sign * reservation.held

    def _full(self) -> OverloadedError:
        return OverloadedError(
            "The gateway holds as many bytes as it may for calls that are under way. Please retry in a few seconds.",
            headers={"retry-after": "2"},
        )
