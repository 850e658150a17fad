"""What the kernel knows of a client, and what a client that takes nothing costs."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from app.server.disconnect_watch import PeerState, WriteTimeout, state_of, unsent_bytes


class Transport:
    """A transport over this socket, with so much in its own buffer."""

    def __init__(self, sock: socket.socket | None = None, waiting: int = 0) -> None:
        self._sock = sock
        self.waiting = waiting
        self.is_aborted = False

    def get_extra_info(self, _name: str) -> socket.socket | None:
        return self._sock

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def pair() -> Iterator[tuple[Any, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    with client, served:
        yield Transport(served), client


def test_a_client_is_there_until_it_ends_its_side(pair: tuple[Any, socket.socket]) -> None:
    transport, client = pair
    assert state_of(transport) is PeerState.OPEN
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert state_of(transport) is PeerState.OPEN
    client.shutdown(socket.SHUT_WR)
    assert state_of(transport) is PeerState.ENDED


def test_a_client_that_is_gone_shows_it_when_it_is_written_to(pair: tuple[Any, socket.socket]) -> None:
    transport, client = pair
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    client.close()
    assert state_of(transport) is PeerState.ENDED
    transport.get_extra_info("socket").sendall(b"0")
    assert state_of(transport) is PeerState.GONE


def test_what_the_client_has_not_taken_is_unsent(pair: tuple[Any, socket.socket]) -> None:
    transport, _ = pair
    transport.waiting = 7
    served = transport.get_extra_info("socket")
    served.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            served.send(b"x" * 65_536)
    assert unsent_bytes(transport) > 7


async def test_a_client_that_takes_nothing_is_ended() -> None:
    transport: Any = Transport(waiting=1000)
    WriteTimeout(transport, 0.05).start()
    async with asyncio.timeout(20):
        while not transport.is_aborted:
            await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_is_not_one_that_reads_nothing() -> None:
    transport: Any = Transport(waiting=1000)
    looks = 0

    def unsent(_: object) -> int:
        nonlocal looks
        looks += 1
        # Four looks pass between two bytes, half of the time that it has.
        return 1000 - looks // 4

    watch = WriteTimeout(transport, 0.05, unsent)
    watch._seconds = 1e9
    watch.start()
    now = watch._loop.time()
    for step in range(1, 100):
        watch._seconds = 8.0
        watch._loop = _Clock(now + step, watch._loop)  # type: ignore[assignment]
        watch._look()
    assert looks == 100
    assert not transport.is_aborted
    watch.stop()


class _Clock:
    def __init__(self, now: float, loop: Any) -> None:
        self._now = now
        self._loop = getattr(loop, "_loop", loop)

    def time(self) -> float:
        return self._now

    def call_later(self, *call: Any) -> Any:
        return self._loop.call_later(*call)


async def test_what_is_written_meanwhile_is_no_progress() -> None:
    transport: Any = Transport(waiting=1000)

    def unsent(_: object) -> int:
        transport.waiting += 6
        return int(transport.waiting)

    WriteTimeout(transport, 0.05, unsent).start()
    async with asyncio.timeout(20):
        while not transport.is_aborted:
            await asyncio.sleep(0.01)


async def test_one_that_reads_again_is_counted_anew() -> None:
    transport: Any = Transport(waiting=1000)
    watch = WriteTimeout(transport, 0.01)
    watch.start()
    watch.stop()
    await asyncio.sleep(0.05)
    assert not transport.is_aborted
