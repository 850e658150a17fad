"""The log of a run as a stream: from any event on, then live, from any replica. Must not know how it is written."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

from app.byte_budget import Reservation
from app.errors import OverloadedError, StorageError
from app.relay.client import Client, RawHeader
from app.relay.conductor import Conductor
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
# A run of this process tells when it has said more; this is for what it then does elsewhere.
_OWN_SECONDS = 1.0


class LogReader:
    """Reads logs for clients. That of another process's run is looked at every `look_seconds`."""

    def __init__(self, runs: RunStore, conductor: Conductor, look_seconds: float = 0.15) -> None:
        self._runs = runs
        self._conductor = conductor
        self._look_seconds = look_seconds

    async def send(
        self, key: int, after: int, client: Client, held: Reservation, told: Iterable[RawHeader] = ()
    ) -> None:
        """Send the client what this run says after event number `after`, to its end, with these headers as well."""
        await client.begin_stream(200, [*_HEADERS, *told])
        async for frames in self.read(key, after, held):
            await client.write(frames)
        await client.end_stream()

    async def read(self, key: int, after: int, held: Reservation) -> AsyncIterator[bytes]:
        """Whole frames, as they come, so many at once as are held. A run that is deleted says nothing more."""
        while True:
            held.shrink(0)
            # Before the log is read: what is said meanwhile has then been heard.
            said = self._conductor.listen(key)
            try:
                view = await self._runs.read_log(key, after, held.add)
            except (StorageError, OverloadedError):
                await asyncio.sleep(self._look_seconds)
                continue
            if view is None:
                return
            for page in view.pages:
                yield _frames_after(page, after)
                after = page.last
            if not view.is_whole:
                continue
            if view.ending is not None:
                status, body = view.ending
                if view.last >= after:
                    yield events.of(_LAST_WORDS[status], body, view.last + 1)
                yield DONE
                return
            await self._more(said)

    async def _more(self, said: asyncio.Event | None) -> None:
        if said is None:
            await asyncio.sleep(self._look_seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_OWN_SECONDS):
                await said.wait()


def _frames_after(page: Page, after: int) -> bytes:
    """The page's frames without those up to this number. Each is one of ours: it ends at its only blank line."""
    start = 0
    for _ in range(page.first, after + 1):
        start = page.frames.index(b"\n\n", start) + 2
    return page.frames[start:]
