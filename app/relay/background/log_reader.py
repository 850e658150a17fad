"""Read the event log of a run as a stream: from any event on, then live, from any replica."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import MappingProxyType

from app.errors import OverloadedError, StorageError
from app.relay.background.log_signals import Listener, LogNotifier
from app.relay.background.scheduler import RunScheduler
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.client import STREAM_HEADERS, Client, RawHeader
from app.runtime.byte_budget import Reservation
from app.state.runs import Page
from app.storage.runs.store import RunStore
from app.wire.responses import stream_events
from app.wire.sse import DONE

_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), *STREAM_HEADERS)
# A cancelled response has no event of its own.
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


class EventLogReader:
    """Read logs for clients, each time that there may be more."""

    def __init__(self, runs: RunStore, signals: LogNotifier, scheduler: RunScheduler, registry: CallRegistry) -> None:
        self._runs = runs
        self._signals = signals
        self._scheduler = scheduler
        self._registry = registry

    async def send(
        self, key: int, after: int, client: Client, held: Reservation, headers: Iterable[RawHeader] = ()
    ) -> None:
        """Send the client the events of this run after number `after`, to its end, with these `headers` as well."""
        await client.begin_stream(200, [*_HEADERS, *headers])
        with self._signals.listening(key, after) as listener, self._registry.when_closing(listener.woken.set):
            async for frames in self._read(key, listener, held):
                await client.write(frames)
        await client.end_stream()

    async def _read(self, key: int, listener: Listener, held: Reservation) -> AsyncIterator[bytes]:
        """Yield whole frames as they come, as many at once as are held. A deleted run ends the stream.

        So does a queued run while this process stops: its client goes on at another replica, or later.
        """
        while True:
            held.shrink(0)
            # Before the log is read: events that are logged meanwhile are read next.
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
            if view.terminal_body is not None:
                status, body = view.terminal_body
                if view.last >= listener.after:
                    yield stream_events.response_frame(_LAST_WORDS[status], body, view.last + 1)
                yield DONE
                return
            if view.is_queued and not self._registry.is_open and not self._scheduler.owns(key):
                return
            await listener.woken.wait()


def _frames_after(page: Page, after: int) -> bytes:
    """Return the page's frames after this event number. Each frame is ours: it ends at its only blank line."""
    start = 0
    for _ in range(page.first, after + 1):
        start = page.frames.index(b"\n\n", start) + 2
    return page.frames[start:]
