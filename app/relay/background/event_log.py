"""Write the event log of a run: upstream's events under our numbers and our id, committed page by page.

The writer is a `pump.Listener`. The terminal event is not logged: each reader makes it from the response as it ended.
"""

import asyncio
from collections.abc import Callable, Mapping

import msgspec
import orjson

from app.errors import StorageError, UpstreamError
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.accumulator import StreamAccumulator
from app.runtime.compute_thread import ComputeThread
from app.state.runs import Page, Run
from app.storage.runs.store import RunStore
from app.wire import sse
from app.wire.json_body import LARGE_BYTES, Json, join_object, members
from app.wire.responses import response_object, stream_events
from app.wire.responses.tool_secrets import ToolSecrets
from app.wire.sse import FrameSplitter, FrameTooLargeError

# What waits to be committed before the stream has to wait too; a single event may be larger.
_MOST_WAITING = 256 * 1024
_RETRY_SECONDS = 0.5
# What an event may grow by under our number.
_LONGEST_NUMBER = 20

_ASKED = frozenset({"id", "background", "conversation", "created_at", "previous_response_id", "store"})
_UNLOGGED = frozenset({kind.decode() for kind in (stream_events.CREATED, *stream_events.TERMINAL)})


class EventLogWriter:
    """Log the events of a run, from event number `number` on, under the response's own id.

    `wrote` is called after each page. The `secrets` are never logged. When the run has another owner by now, the rest
    is dropped. A log larger than `max_bytes` is an UpstreamError, as is an event larger than `max_event_bytes`.
    """

    def __init__(
        self,
        run: Run,
        runs: RunStore,
        wrote: Callable[[], None],
        registry: CallRegistry,
        *,
        number: int,
        max_bytes: int,
        max_event_bytes: int,
        compute_thread: ComputeThread,
    ) -> None:
        self._compute_thread = compute_thread
        self._run = run
        self._runs = runs
        self._asked = request_identity(run.body)
        self._wrote = wrote
        self._registry = registry
        self.secrets: ToolSecrets | None = None
        self._items_before = 0
        self._number = number
        self._room = max_bytes
        self._splitter = FrameSplitter(max_event_bytes)
        self._waiting: list[bytes] = []
        self._size = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def write(self, frames: bytes) -> None:
        """Log whole frames; waits while too much is not committed yet."""
        try:
            for frame in self._splitter.feed(frames):
                if len(frame) < LARGE_BYTES:
                    self._take(frame)
                else:
                    args = (frame, self._number, self._asked, self.secrets, self._items_before)
                    self._log(await self._compute_thread.run(len(frame), renumbered, *args))
        except FrameTooLargeError:
            raise _too_large() from None
        await self._has_room.wait()

    def write_now(self, frames: bytes) -> bool:
        """Log one frame, if there is room for it; return whether there was."""
        if not self._has_room.is_set() or len(frames) + _LONGEST_NUMBER > self._room or len(frames) >= LARGE_BYTES:
            return False
        self._take(frames)
        return True

    async def begin_output_with(self, item: bytes) -> None:
        """Log this as the first item of the output, which upstream does not know: its items follow one index later."""
        begun = stream_events.response_frame(
            "response.in_progress", response_object.ended(self._run.body, "in_progress", []), 0
        )
        item_events = [
            sse.frame(kind, b'{"type":"%b","output_index":0,"item":%b}' % (kind.encode(), item))
            for kind in ("response.output_item.added", "response.output_item.done")
        ]
        await self.write(b"".join([begun, *item_events]))
        self._items_before = 1

    async def end_stream(self) -> None:
        """Do nothing: the rest is committed with the run's end."""

    async def drain(self) -> None:
        """Wait until all is committed, and take nothing more."""
        await self._idle.wait()
        self._closed = True

    def close(self) -> None:
        """Drop what is not committed, and take nothing more."""
        self._closed = True
        self._waiting.clear()
        self._has_room.set()

    def _take(self, frame: bytes) -> None:
        if not self._closed:
            self._log(renumbered(frame, self._number, self._asked, self.secrets, self._items_before))

    def _log(self, logged: bytes | None) -> None:
        if logged is None or self._closed:
            return
        self._room -= len(logged)
        if self._room < 0:
            raise _too_large()
        self._number += 1
        self._waiting.append(logged)
        self._size += len(logged)
        if self._size >= _MOST_WAITING:
            self._has_room.clear()
        if self._idle.is_set():
            self._idle.clear()
            self._registry.spawn(self._commit())

    async def _commit(self) -> None:
        """Commit what waits, and what comes meanwhile with the next page."""
        try:
            while self._waiting:
                frames, self._waiting, self._size = self._waiting, [], 0
                page = Page(self._number - len(frames), self._number - 1, b"".join(frames))
                self._has_room.set()
                if not await self._kept(page):
                    self.close()
                self._wrote()
        finally:
            self._idle.set()

    async def _kept(self, page: Page) -> bool:
        while not self._closed:
            try:
                return await self._runs.append(self._run, page)
            except StorageError:
                # The stream waits meanwhile; if this process dies, the next owner ends the run.
                await asyncio.sleep(_RETRY_SECONDS)
        return False


async def replay_log(
    runs: RunStore, run: Run, accumulator: StreamAccumulator, max_event_bytes: int, compute_thread: ComputeThread
) -> None:
    """Feed the accumulator all that was logged of this run."""
    splitter, after = FrameSplitter(max_event_bytes), -1

    def feed(frames: bytes) -> None:
        for frame in splitter.feed(frames):
            accumulator.feed(frame, stream_events.kind(frame))

    while (view := await runs.read_log(run.key, after)) is not None:
        for page in view.pages:
            await compute_thread.run(len(page.frames), feed, page.frames)
            after = page.last
        if view.is_whole:
            return


def request_identity(body: bytes) -> Mapping[str, Json]:
    """Return the members of a response object that identify it: its id, its creation time and what its client asked."""
    return {name: value for name, value in members(body).items() if name in _ASKED}


def renumbered(
    frame: bytes,
    number: int,
    asked: Mapping[str, Json],
    secrets: ToolSecrets | None = None,
    items_before: int = 0,
) -> bytes | None:
    """Rewrite upstream's event for the log; None for an event that is not logged.

    Its number is ours, its response object, where it has one, has the members `asked`, and it has none of the
    `secrets`. Its output index counts the items of ours that were logged before. Every other value keeps its bytes.
    """
    event = stream_events.parts(frame if secrets is None else secrets.redacted(frame))
    try:
        kind = orjson.loads(bytes(event["type"]))
        if not isinstance(kind, str) or not _is_name(kind) or kind in _UNLOGGED:
            return None
        event["sequence_number"] = Json(b"%d" % number)
        if items_before:
            if kind == "response.in_progress":
                # The event was logged before our items.
                return None
            if (index := bytes(event.get("output_index", b""))).isdigit():
                event["output_index"] = Json(b"%d" % (int(index) + items_before))
        if "response" in event:
            shown = event["response"] if secrets is None else secrets.redacted_in(bytes(event["response"]))
            event["response"] = Json(join_object({**members(shown), **asked}))
    except (msgspec.MsgspecError, orjson.JSONDecodeError, KeyError, RecursionError):
        return None
    # A line break in JSON is white space, and would end the line of data.
    return sse.frame(kind, join_object(event).replace(b"\n", b" "))


def _is_name(kind: str) -> bool:
    return kind.isascii() and kind.isprintable()


def _too_large() -> UpstreamError:
    return UpstreamError("Upstream's answer is larger than this gateway accepts.", code="upstream_too_large")
