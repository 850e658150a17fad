"""The log of a run as a stream: from any event on, then live, from any replica. Must not know how it is written."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import MappingProxyType

from app.byte_budget import Reservation
from app.errors import OverloadedError, StorageError
from app.relay.client import Client, RawHeader
from app.relay.conductor import Conductor
from app.relay.log_signals import Listener, LogSignals
from app.relay.registry import Registry
from app.state.runs import Page
from app.storage.run_store import RunStore
from app.wire import events
from app.wire.sse import DONE

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
# There is no event of its own for a response that was cancelled.
_LAST_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "completed": "response.completed",
        "incomplete": "response.incomplete",
        "failed": "response.failed",
        "cancelled": "response.failed",
    }
)
# A log that cannot be read now is tried again after this.
_RETRY_SECONDS = 0.5


class LogReader:
    """Reads logs for clients, each time that there may be more."""

    def __init__(self, runs: RunStore, signals: LogSignals, conductor: Conductor, registry: Registry) -> None:
        self._runs = runs
        self._signals = signals
        self._conductor = conductor
        self._registry = registry

    async def send(
        self, key: int, after: int, client: Client, held: Reservation, told: Iterable[RawHeader] = ()
    ) -> None:
        """Send the client what this run says after event number `after`, to its end, with these headers as well."""
        await client.begin_stream(200, [*_HEADERS, *told])
        with self._signals.listening(key, after) as listener, self._registry.telling(listener.woken.set):
            async for frames in self._read(key, listener, held):
                await client.write(frames)
        await client.end_stream()

    async def _read(self, key: int, listener: Listener, held: Reservation) -> AsyncIterator[bytes]:
        """Whole frames, as they come, so many at once as are held. A run that is deleted says nothing more.

        Nor does one that nobody has begun, while this process stops: its client goes on listening at another, or later.
        """
        while True:
            held.shrink(0)
            # Before the log is read: what is said meanwhile is read next.
            listener.woken.clear()
            try:
                view = await self._runs.read_log(key, listener.after, held.add)
            except (StorageError, OverloadedError):
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if view is None:
                return
            for page in view.pages:
                yield _frames_after(page, listener.after)
                listener.after = page.last
            if not view.is_whole:
                continue
            if view.ending is not None:
                status, body = view.ending
                if view.last >= listener.after:
                    yield events.of(_LAST_WORDS[status], body, view.last + 1)
                yield DONE
                return
            if view.is_queued and not self._registry.is_open and not self._conductor.performs(key):
                return
            await listener.woken.wait()


def _frames_after(page: Page, after: int) -> bytes:
    """The page's frames without those up to this number. Each is one of ours: it ends at its only blank line."""
    start = 0
    for _ in range(page.first, after + 1):
        start = page.frames.index(b"\n\n", start) + 2
    return page.frames[start:]
