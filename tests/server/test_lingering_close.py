"""How long a client is listened to after its answer, before its connection is closed."""

import asyncio
import errno

import pytest

from app.server.http import lingering_close
from tests.fakes.connected import LIVEZ, POST, AppFake, Connected, until


async def test_a_body_that_nobody_wants_is_read_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    app = AppFake(reads=False)
    app.may_answer = asyncio.Semaphore(10)
    quick, slow = Connected(app), Connected(app)
    for each, seconds in ((quick, 60.0), (slow, 0.02)):
        monkeypatch.setattr(lingering_close, "LINGER_SECONDS", seconds)
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
    monkeypatch.setattr(lingering_close, "LINGER_SECONDS", 1.0)
    await connected.sends(LIVEZ.replace(b"host", b"connection: close\r\nhost"))
    await app.answer()
    assert connected.transport.is_ended
    assert not connected.transport.is_closed
    await connected.sends(b"what comes now is dropped", LIVEZ)
    assert connected.held == 0
    assert len(app.asked) == 1
    await until(lambda: connected.transport.is_closed)


async def test_a_connection_that_was_reset_under_its_last_answer_is_no_fault(
    connected: Connected, app: AppFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_reset() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(lingering_close, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(connected.transport, "write_eof", is_reset)
    await connected.sends(LIVEZ.replace(b"host", b"connection: close\r\nhost"))
    await app.answer()
    assert connected.statuses == [b"200"]
    await until(lambda: connected.transport.is_closed)
