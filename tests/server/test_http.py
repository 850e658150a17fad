"""A connection by itself: one request at a time, what is held meanwhile, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.outbox import Outbox
from app.server import http, peer
from app.server.descriptors import ConnectionLimit
from app.server.http import HttpProtocol
from app.server.peer import PeerState

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = {"type": "http.response.body", "body": b""}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}

App = Callable[[Any, Any, Any], Awaitable[None]]


class Transport:
    """What a connection asks of its transport."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_reading = True
        self.is_ended = self.is_closed = self.is_aborted = False

    def write(self, data: bytes) -> None:
        assert not self.is_ended
        self.sent += data

    def write_eof(self) -> None:
        self.is_ended = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_extra_info(self, _name: str) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True


class AppFake:
    """An app that answers as often as it may, and notes what it was asked."""

    def __init__(self, *, reads: bool = True) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.faults: list[str] = []
        self.may_answer = asyncio.Semaphore(0)
        self._reads = reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", self._reads
        try:
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
        except Exception as error:  # noqa: BLE001 - it is what the test is about
            self.faults.append(str(error))
        self.asked.append((scope["method"], body))
        await self.may_answer.acquire()
        await send(START)
        await send(DONE)

    async def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self.may_answer.release()
            await turns()


class Connected:
    """A connection of an app, with its transport."""

    def __init__(self, app: App) -> None:
        self.state, self.transport = ServerState(), Transport()
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        limit = ConnectionLimit(most=1)
        self.protocol = HttpProtocol(
            config, self.state, {}, outbox=Outbox(), connections=limit, write_timeout_seconds=60
        )
        to: Any = self.transport
        self.protocol.connection_made(to)

    async def sends(self, *pieces: bytes) -> None:
        for piece in pieces:
            assert self.transport.is_reading, "it was read from a connection that was paused"
            self.protocol.data_received(piece)
            await turns()

    @property
    def statuses(self) -> list[bytes]:
        return [answer[:3] for answer in self.transport.sent.split(b"HTTP/1.1 ")[1:]]

    @property
    def held(self) -> int:
        return len(self.protocol._reader._unread)


async def turns(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def app() -> AppFake:
    return AppFake()


@pytest.fixture
async def connected(app: AppFake) -> AsyncIterator[Connected]:
    made = Connected(app)
    yield made
    made.protocol.connection_lost(None)
    await app.answer(20)
    assert not made.state.connections
    assert not made.state.tasks


@contextmanager
def peer_is(state: PeerState, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as patched:
        patched.setattr(peer, "state_of", lambda _: state)
        patched.setattr(peer, "_PEER_SECONDS", 0.01)
        patched.setattr(peer, "_PROBE_SECONDS", 0.01)
        yield


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_next_request_is_parsed_when_the_last_is_answered(connected: Connected, app: AppFake) -> None:
    await connected.sends(LIVEZ * 3)
    assert not connected.transport.is_reading
    for answered in (1, 2, 3):
        assert len(app.asked) == answered
        await app.answer()
        assert len(connected.statuses) == connected.state.total_requests == answered
        # Where the last is under way its client's end is to be seen.
        assert connected.transport.is_reading == (answered >= 2)


async def test_one_read_is_held_and_no_more(connected: Connected, app: AppFake) -> None:
    await connected.sends(LIVEZ, LIVEZ * 1000)
    assert not connected.transport.is_reading
    assert connected.held == len(LIVEZ) * 1000
    await app.answer(2)
    assert not connected.transport.is_reading
    assert len(connected.statuses) == 2


async def test_others_are_served_between_requests_that_were_sent_together(connected: Connected, app: AppFake) -> None:
    app.may_answer = asyncio.Semaphore(1000)
    connected.protocol.data_received(LIVEZ * 1000)
    most = 0
    while len(connected.statuses) < 1000:
        before = len(connected.statuses)
        await asyncio.sleep(0)
        most = max(most, len(connected.statuses) - before)
    assert most == 1


async def test_many_small_chunks_are_read_in_turns(connected: Connected, app: AppFake) -> None:
    app.may_answer = asyncio.Semaphore(1)
    connected.protocol.data_received(CHUNKED + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
    assert not connected.transport.is_reading
    await until(lambda: connected.statuses)
    assert app.asked == [("POST", b"x" * 5000)]


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n"])
async def test_a_bad_request_is_refused_after_the_answers_before_it(
    connected: Connected, app: AppFake, bad: bytes
) -> None:
    await connected.sends(LIVEZ + b"DELETE / HTTP/1.1\r\nhost: a\r\n\r\n" + bad + LIVEZ)
    await app.answer(4)
    assert [method for method, _ in app.asked] == ["GET", "DELETE"]
    assert connected.statuses == [b"200", b"200", b"400"]
    assert connected.transport.is_ended


async def test_what_is_no_request_and_was_sent_under_an_answer_ends_the_connection_behind_it(
    connected: Connected, app: AppFake
) -> None:
    await connected.sends(LIVEZ, b"\x01\x02garbage\r\n\r\n")
    assert connected.transport.sent == b""
    await app.answer()
    assert connected.statuses == [b"200"]
    assert connected.transport.is_ended


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"garbage\r\n\r\n"])
async def test_what_is_no_request_is_told_so(connected: Connected, app: AppFake, sent: bytes) -> None:
    await connected.sends(sent, LIVEZ)
    assert connected.statuses == [b"400"]
    assert app.asked == []


async def test_the_end_of_a_body_is_asked_for_before_the_next_request_is(connected: Connected, app: AppFake) -> None:
    await connected.sends(LIVEZ + POST % 4)
    await app.answer()
    await connected.sends(b"bo", b"dy" + LIVEZ)
    await app.answer(2)
    assert app.asked == [("GET", b""), ("POST", b"body"), ("GET", b"")]
    assert connected.statuses == [b"200"] * 3


async def test_a_body_waits_for_an_app_that_does_not_take_it(connected: Connected, app: AppFake) -> None:
    slow = Connected(AppFake(reads=False))
    await slow.sends(POST % 1_000_000 + b"x" * 70_000)
    assert not slow.transport.is_reading
    slow.protocol.connection_lost(None)
    await connected.sends(POST % 1_000_000, *[b"x" * 100_000] * 10)
    assert app.asked == [("POST", b"x" * 1_000_000)]


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"0\r\nno colon\r\n\r\n", b"0\r\n" + b"t: x\r\n" * 2000])
async def test_a_body_that_is_none_is_the_apps_to_refuse_and_ends_the_connection(
    connected: Connected, app: AppFake, chunks: bytes
) -> None:
    await connected.sends(CHUNKED, b"1\r\nx\r\n", chunks if chunks.startswith(b"0") else b"\r\n", LIVEZ * 10)
    assert app.faults
    await app.answer()
    assert connected.statuses == [b"200"]
    assert b"connection: close\r\n" in connected.transport.sent
    assert connected.transport.is_ended
    assert connected.transport.is_reading


async def test_a_body_that_nobody_wants_is_read_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LINGER_SECONDS", 0.02)
    app = AppFake(reads=False)
    app.may_answer = asyncio.Semaphore(10)
    slow, quick = Connected(app), Connected(app)
    for each in (slow, quick):
        await each.sends(POST % 400_000 + b"x" * 100_000, b"x" * 100_000)
        assert each.statuses == [b"200"]
    await quick.sends(b"x" * 200_000 + LIVEZ, LIVEZ)
    assert quick.statuses == [b"200"] * 3
    await until(lambda: slow.transport.is_closed)
    assert not quick.transport.is_closed
    for each in (slow, quick):
        each.protocol.connection_lost(None)


async def test_the_last_answer_can_be_read_before_the_connection_closes(
    connected: Connected, app: AppFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_LINGER_SECONDS", 0.02)
    await connected.sends(LIVEZ.replace(b"host", b"connection: close\r\nhost"))
    await app.answer()
    assert connected.transport.is_ended
    assert not connected.transport.is_closed
    await connected.sends(b"what comes now is dropped", LIVEZ)
    assert connected.held == 0
    assert len(app.asked) == 1
    await until(lambda: connected.transport.is_closed)


async def test_a_client_that_ended_its_side_gets_its_answers(connected: Connected, app: AppFake) -> None:
    connected.protocol.data_received(LIVEZ * 2)
    await app.answer()
    assert connected.protocol.eof_received()
    assert not connected.transport.is_closed
    await app.answer()
    assert connected.statuses == [b"200", b"200"]
    assert connected.transport.is_closed


@pytest.mark.parametrize("sent", [b"", b"GET / HT", POST % 3 + b"x"])
async def test_a_client_that_ended_its_side_before_its_request_is_gone(connected: Connected, sent: bytes) -> None:
    if sent:
        await connected.sends(sent)
    assert not connected.protocol.eof_received()


@pytest.mark.parametrize("is_paused", [True, False])
async def test_a_client_that_left_is_noticed_though_nothing_is_read(
    connected: Connected, app: AppFake, monkeypatch: pytest.MonkeyPatch, is_paused: bool
) -> None:
    with peer_is(PeerState.GONE, monkeypatch):
        await connected.sends(LIVEZ)
        if is_paused:
            await connected.sends(LIVEZ)
        else:
            connected.protocol.eof_received()
        await until(lambda: connected.transport.is_aborted)
    assert connected.transport.sent == b""


async def test_a_client_that_may_have_left_is_probed_once(
    connected: Connected, app: AppFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer_is(PeerState.ENDED, monkeypatch):
        await connected.sends(LIVEZ)
        connected.protocol.eof_received()
        await until(lambda: connected.transport.sent)
        await asyncio.sleep(0.1)
    await app.answer()
    assert connected.statuses == [b"100", b"200"]


async def test_the_time_of_a_head_counts_from_its_first_byte(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_HEAD_SECONDS", 0.1)
    sent = iter(LIVEZ[:-4] + b"x" * 100_000)
    async with asyncio.timeout(20):
        while not connected.statuses:
            connected.protocol.data_received(bytes([next(sent)]))
            await asyncio.sleep(0.01)
    assert connected.statuses == [b"408"]


async def test_an_app_that_fails_or_forgets_to_answer_ends_the_connection() -> None:
    called: list[str] = []

    async def fail(scope: Any, _receive: Any, _send: Any) -> None:
        called.append(scope["path"])
        raise LookupError

    async def forget(scope: Any, _receive: Any, _send: Any) -> None:
        called.append(scope["path"])

    for app in (fail, forget):
        connected = Connected(app)
        await connected.sends(LIVEZ * 2)
        assert connected.transport.is_closed
        assert connected.transport.sent == b""
        assert called == ["/livez"]
        called.clear()
        assert not connected.state.tasks
        connected.protocol.connection_lost(None)


async def test_shutdown_lets_the_answer_under_way_finish_and_no_other_begin(app: AppFake) -> None:
    connected, idle = Connected(app), Connected(app)
    await connected.sends(LIVEZ * 2)
    connected.protocol.shutdown()
    idle.protocol.shutdown()
    assert idle.transport.is_closed
    assert not connected.transport.is_closed
    await app.answer(2)
    assert connected.transport.is_ended
    assert connected.statuses == [b"200"]
    assert b"connection: close\r\n" in connected.transport.sent
    for each in (connected, idle):
        each.protocol.connection_lost(None)
    await turns()


async def test_a_connection_that_becomes_a_websocket_leaves_no_task_behind(app: AppFake) -> None:
    connected = Connected(app)
    handed: list[bytes] = []

    class Socket:
        def __init__(self, **_: Any) -> None: ...
        def connection_made(self, _transport: Any) -> None: ...

        def data_received(self, data: bytes) -> None:
            handed.append(data)

    connected.protocol._config.ws_protocol_class = Socket  # type: ignore[assignment]
    connected.transport.set_protocol = lambda _: None  # type: ignore[attr-defined]
    before = asyncio.all_tasks()
    await connected.sends(LIVEZ)
    await app.answer()
    assert len(asyncio.all_tasks() - before) == 1
    await connected.sends(b"GET /v1/responses HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert handed
    assert asyncio.all_tasks() == before
    assert not connected.state.connections
