"""Wake the listeners of a run when its log has grown or it has ended, whichever process wrote that.

This process wakes its own at once, other replicas wake theirs by the database's notifications. Either signal may be
lost, so some of the runs with listeners are polled, now and then, in turn.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from app.relay.process.periodic_tasks import PeriodicTask
from app.storage.runs.notifications import Notifications
from app.storage.runs.store import RunStore

# Runs of one poll: it costs the same, however many have listeners.
_POLLED_RUNS = 100
_POLL_SECONDS = 1.0
# The pause between two notifications: however much is logged, replicas are notified twenty times a second.
_NOTIFY_SECONDS = 0.05


@dataclass(slots=True, eq=False)
class Listener:
    """Hold the last event number that a listener has got. `woken` is set when there may be more."""

    after: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class LogNotifier:
    """Wake the listeners of this process. `notifications` reach other replicas, where there can be any."""

    def __init__(self, runs: RunStore, notifications: Notifications | None) -> None:
        self._runs = runs
        self._notifications = notifications
        # The runs that were polled last are at the end.
        self._listeners: dict[int, set[Listener]] = {}

    @contextmanager
    def listening(self, key: int, after: int) -> Iterator[Listener]:
        """Listen to this run within the context, after the event of this number."""
        listener = Listener(after)
        self._listeners.setdefault(key, set()).add(listener)
        try:
            yield listener
        finally:
            self._listeners[key].discard(listener)
            if not self._listeners[key]:
                del self._listeners[key]

    def changed(self, key: int) -> None:
        """Wake the listeners of this run at every replica."""
        self.wake(key)
        if self._notifications is not None:
            self._notifications.tell(key)

    def wake(self, key: int) -> None:
        """Wake the listeners of this run in this process."""
        for listener in self._listeners.get(key, ()):
            listener.woken.set()

    @property
    def periodic_tasks(self) -> Sequence[PeriodicTask]:
        """Return the periodic tasks that signals need."""
        poll = PeriodicTask("run listeners", self.poll, _POLL_SECONDS)
        if self._notifications is None:
            return (poll,)
        return (
            poll,
            PeriodicTask("notifications heard", partial(self._notifications.listen, self.wake), 0),
            PeriodicTask("notifications told", self._notifications.send, _NOTIFY_SECONDS),
        )

    async def aclose(self) -> None:
        """Stop listening to notifications."""
        if self._notifications is not None:
            await self._notifications.aclose()

    async def poll(self) -> None:
        """Poll the next runs in turn, and wake listeners that have missed something. Raises StorageError."""
        keys = [key for key, _ in zip(self._listeners, range(_POLLED_RUNS), strict=False)]
        if not keys:
            return
        seen = {key: min(listener.after for listener in self._listeners[key]) for key in keys}
        for key in keys:
            self._listeners[key] = self._listeners.pop(key)
        for key in await self._runs.have_more(seen):
            self.wake(key)
