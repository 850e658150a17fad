"""What becomes of upstream's events in a log: numbers, ids, pages; and what a log never holds."""

import asyncio
from typing import Any

import orjson
import pytest

from app.errors import StorageError, UpstreamError
from app.relay.background.event_log import EventLogWriter, renumbered, replay_log, request_identity
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.accumulator import StreamAccumulator
from app.runtime.compute_thread import ComputeThread
from app.state.runs import LogView, Page, Run, RunRequest
from tests.fakes.streams import events, frame, response, story

ASKED = {
    "id": "resp_ours",
    "created_at": 7,
    "background": True,
    "conversation": None,
    "previous_response_id": "resp_0",
    "store": False,
}
BODY = orjson.dumps({**response("resp_ours", "queued"), **ASKED})
RUN = Run(7, 1, RunRequest("resp_ours", "proj_a", "key_1", False, True, {}, b""), "queued", BODY, False, 0)


class Log:
    """A store of pages. While `open` is not set, commits wait; `errors` are raised first; `is_ours` says who has it."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.errors: list[Exception] = []
        self.is_ours = True
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, run: Run, page: Page) -> bool:
        self.began.set()
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.is_ours:
            self.pages.append(page)
        return self.is_ours

    async def read_log(self, key: int, after: int) -> LogView:
        pages = [page for page in self.pages if page.last > after][:1]
        return LogView(tuple(pages), pages[-1:] == self.pages[-1:], self.pages[-1].last, None)

    @property
    def events(self) -> list[dict[str, Any]]:
        return events(b"".join(page.frames for page in self.pages))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def event_log(log: Log, registry: CallRegistry) -> EventLogWriter:
    store: Any = log
    return EventLogWriter(
        RUN,
        store,
        lambda: None,
        registry,
        number=2,
        max_bytes=1 << 20,
        max_event_bytes=1 << 20,
        compute_thread=ComputeThread(),
    )


async def test_events_are_numbered_anew_and_those_of_the_beginning_and_the_end_left_out(
    log: Log, event_log: EventLogWriter
) -> None:
    for one in (*story("resp_theirs"), b"data: [DONE]\n\n", b": a comment\n\n"):
        await event_log.write(one)
    await event_log.drain()
    logged = log.events
    assert [event["sequence_number"] for event in logged] == [2, 3, 4, 5]
    assert [event["type"] for event in logged] == [event["type"] for event in events(b"".join(story("x")[1:-1]))]


async def test_a_response_in_an_event_is_the_clients_own(log: Log, event_log: EventLogWriter) -> None:
    theirs = {**response("resp_theirs", "in_progress"), "store": False, "big": 12345678901234567890123}
    raw = b'{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_theirs","x":1.50,"store":true}}'
    await event_log.write(b"event: response.in_progress\ndata: %b\n\n" % raw)
    await event_log.drain()
    (logged,) = log.events
    assert logged["response"] == {"x": 1.5, **ASKED}
    assert b'"x":1.50' in log.pages[0].frames
    assert theirs["id"] not in log.pages[0].frames.decode()


async def test_an_item_of_ours_is_the_outputs_first_and_upstreams_stand_behind_it(
    log: Log, event_log: EventLogWriter
) -> None:
    ours = {"id": "cmp_1", "type": "compaction", "encrypted_content": "x"}
    await event_log.begin_output_with(orjson.dumps(ours))
    for one in story("resp_theirs"):
        await event_log.write(one)
    await event_log.drain()
    logged = log.events
    assert [event["sequence_number"] for event in logged] == list(range(2, 2 + len(logged)))
    assert [event["type"] for event in logged][:3] == [
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
    ]
    assert logged[0]["response"]["status"] == "in_progress"
    assert [event["item"] for event in logged[1:3]] == [ours, ours]
    assert [event.get("output_index") for event in logged[1:]] == [
        *(0, 0),
        *(event["output_index"] + 1 for event in events(b"".join(story("x")[1:-1])) if "output_index" in event),
    ]
    accumulator = StreamAccumulator({}, 1 << 20)
    store: Any = log
    await replay_log(store, RUN, accumulator, 1 << 20, ComputeThread())
    assert [orjson.loads(item)["type"] for item in accumulator.items("failed")] == ["compaction", "message"]


@pytest.mark.parametrize(
    ("given", "logged"),
    [
        (
            b'data: {"type":"a.b","n":1e400,"s":"\xe2\x80\xa8"}\n\n',
            b'{"type":"a.b","n":1e400,"s":"\xe2\x80\xa8","sequence_number":5}',
        ),
        (b'event: other\ndata: {"sequence_number":99,\ndata: "type":"a"}\n\n', b'{"sequence_number":5,"type":"a"}'),
        (b'event:x\r\ndata:{"type":"a"}\r\n\r\n', b'{"type":"a","sequence_number":5}'),
    ],
)
def test_an_event_becomes_one_line_under_its_own_name(given: bytes, logged: bytes) -> None:
    kind = orjson.loads(logged.replace(b"1e400", b"0"))["type"].encode()
    assert renumbered(given, 5, request_identity(BODY)) == b"event: %b\ndata: %b\n\n" % (kind, logged)


@pytest.mark.parametrize(
    "given",
    [
        b"\n\n",
        b": ping\n\n",
        b"event: response.output_text.delta\n\n",
        b"data: [DONE]\n\n",
        b'data: "text"\n\n',
        b'data: {"sequence_number":1}\n\n',
        b'data: {"type":5}\n\n',
        b'data: {"type":"a\\nevent: b"}\n\n',
        b'data: {"type":"response.failed"}\n\n',
        b'event: response.in_progress\ndata: {"type":"response.in_progress","response":5}\n\n',
        b'data: {"type":"a"\n\n',
    ],
)
def test_what_is_no_event_of_the_api_has_no_place(given: bytes) -> None:
    assert renumbered(given, 5, request_identity(BODY)) is None


async def test_what_comes_during_a_commit_is_the_next_page(log: Log, event_log: EventLogWriter) -> None:
    log.open.clear()
    await event_log.write(frame("a", 0))
    await log.began.wait()
    for _ in range(3):
        assert event_log.write_now(frame("b", 0))
    log.open.set()
    await event_log.drain()
    assert [(page.first, page.last) for page in log.pages] == [(2, 2), (3, 5)]


async def test_a_stream_waits_while_too_much_is_not_committed(log: Log, event_log: EventLogWriter) -> None:
    log.open.clear()
    await event_log.write(frame("a", 0))
    await log.began.wait()
    writing = asyncio.create_task(event_log.write(frame("a", 0, delta="x" * 300_000)))
    async with asyncio.timeout(10):
        while event_log._has_room.is_set():
            await asyncio.sleep(0)
    assert not event_log.write_now(frame("a", 0))
    assert not writing.done()
    log.open.set()
    async with asyncio.timeout(10):
        await writing
    assert event_log.write_now(frame("a", 0))
    await event_log.drain()
    assert [event["sequence_number"] for event in log.events] == [2, 3, 4]


async def test_a_page_that_could_not_be_committed_is_tried_again(log: Log, event_log: EventLogWriter) -> None:
    log.errors = [StorageError("down")]
    await event_log.write(frame("a", 0))
    async with asyncio.timeout(10):
        await event_log.drain()
    assert [event["sequence_number"] for event in log.events] == [2]


async def test_the_log_of_a_run_that_was_lost_ends_there(log: Log, event_log: EventLogWriter) -> None:
    log.is_ours = False
    await event_log.write(frame("a", 0))
    async with asyncio.timeout(10):
        await event_log.drain()
    log.is_ours = True
    await event_log.write(frame("a", 0))
    await event_log.drain()
    assert log.pages == []


async def test_a_log_has_a_largest_size(log: Log, registry: CallRegistry) -> None:
    store: Any = log
    event_log = EventLogWriter(
        RUN,
        store,
        lambda: None,
        registry,
        number=2,
        max_bytes=1000,
        max_event_bytes=600,
        compute_thread=ComputeThread(),
    )
    await event_log.write(frame("a", 0, delta="x" * 500))
    assert not event_log.write_now(frame("a", 0, delta="x" * 500))
    with pytest.raises(UpstreamError, match="larger"):
        await event_log.write(frame("a", 0, delta="x" * 500))
    await event_log.drain()
    assert len(log.events) == 1


async def test_what_was_logged_can_be_recalled(log: Log, event_log: EventLogWriter) -> None:
    created = events(story("resp_ours")[0])[0]["response"]
    log.pages.append(Page(0, 0, frame("response.created", 0, response=created)))
    for one in story("resp_theirs"):
        await event_log.write(one)
        await asyncio.sleep(0)
    await event_log.drain()
    store: Any = log
    accumulator = StreamAccumulator({}, 1 << 20)
    await replay_log(store, RUN, accumulator, 1 << 20, ComputeThread())
    ended = orjson.loads(accumulator.ended("failed"))
    assert (ended["id"], ended["status"], len(ended["output"])) == ("resp_ours", "failed", 1)
