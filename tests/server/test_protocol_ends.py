"""How a connection ends: by its client, by the server, or because nothing comes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.server import disconnect_watch
from app.server.disconnect_watch import PeerState
from app.server.http import protocol as http
from tests.fakes.connected import CHUNKED, LIVEZ, POST, AppFake, Connected, turns, until


@contextmanager
def peer_is(state: PeerState, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as patched:
        patched.setattr(disconnect_watch, "state_of", lambda _: state)
        patched.setattr(disconnect_watch, "_PEER_SECONDS", 0.01)
        patched.setattr(disconnect_watch, "_PROBE_SECONDS", 0.01)
        yield


async def test_a_client_that_ended_its_side_gets_its_answers(connected: Connected, app: AppFake) -> None:
    connected.protocol.data_received(LIVEZ * 2)
    await app.answer()
    assert connected.protocol.eof_received()
    assert not connected.transport.is_closed
    await app.answer()
    assert connected.statuses == [b"200", b"200"]
    assert connected.transport.is_closed


async def test_a_client_that_ended_its_side_behind_a_bad_body_is_told_so(connected: Connected, app: AppFake) -> None:
    await connected.sends(CHUNKED, b"zz\r\n")
    assert connected.protocol.eof_received()
    await app.answer()
    assert connected.statuses == [b"200"]
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
    assert connected.transport.is_reading
    assert asyncio.all_tasks() == before
    assert not connected.state.connections
