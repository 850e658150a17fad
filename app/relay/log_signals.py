"""Wake those who listen to a run when its log has grown or it has ended, whichever process wrote that.

What this process writes is told at once, what other replicas write by the database's notifications. Either may fail to
come, so some of the runs that are listened to are looked at, now and then, in turn.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from app.relay.duties import Duty
from app.storage.notifications import Notifications
from app.storage.run_store import RunStore

# Runs that one look asks for: it costs the same, however many are listened to.
_LOOKED_AT = 100
_LOOK_SECONDS = 1.0
# Between two notifications: however much is said, replicas hear of it twenty times a second.
_TELL_SECONDS = 0.05


@dataclass(slots=True, eq=False)
class Listener:
    """Who has been told a run's events up to number `after`. `woken` is set when there may be more."""

    after: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class LogSignals:
    """The listeners of this process. `notifications` tell other replicas, where there can be any."""

    def __init__(self, runs: RunStore, notifications: Notifications | None) -> None:
        self._runs = runs
        self._notifications = notifications
        # Those that were looked at last are last.
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
        """Have all who listen to this run read its log, at every replica."""
        self.wake(key)
        if self._notifications is not None:
            self._notifications.tell(key)

    def wake(self, key: int) -> None:
        """Have those who listen to this run here read its log."""
        for listener in self._listeners.get(key, ()):
            listener.woken.set()

    @property
    def duties(self) -> Sequence[Duty]:
        """What has to be done again and again for it."""
        look = Duty("run listeners", self.look, _LOOK_SECONDS)
        if self._notifications is None:
            return (look,)
        return (
            look,
            Duty("notifications heard", partial(self._notifications.listen, self.wake), 0),
            Duty("notifications told", self._notifications.send, _TELL_SECONDS),
        )

    async def aclose(self) -> None:
        """Hear nothing more."""
        if self._notifications is not None:
            await self._notifications.aclose()

    async def look(self) -> None:
        """Wake who has missed something, of the next runs in turn. Raises StorageError."""
        keys = [key for key, _ in zip(self._listeners, range(_LOOKED_AT), strict=False)]
        if not keys:
            return
        seen = {key: min(listener.after for listener in self._listeners[key]) for key in keys}
        for key in keys:
            self._listeners[key] = self._listeners.pop(key)
        for key in await self._runs.have_more(seen):
            self.wake(key)
