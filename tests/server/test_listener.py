"""The listening socket: what connections inherit from it; at its end what it has is accepted, what is new refused."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from app.server.listener import listen, turn_away
from app.settings.server import ServerSettings

_SECONDS = 30.0
_MUCH_BYTES = 256 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel is not told")
def test_a_listener_that_turns_away_still_has_what_came_before_and_refuses_what_comes_after() -> None:
    listener = listen(ServerSettings(port=0))
    listener.listen(8)
    address = listener.getsockname()
    with socket.create_connection(address, _SECONDS) as before, ThreadPoolExecutor(1) as thread:
        before.sendall(b"a request")
        turn_away(listener)
        after = thread.submit(socket.create_connection, address, _SECONDS)
        listener.settimeout(_SECONDS)
        accepted, _ = listener.accept()
        with accepted:
            listener.close()
            assert accepted.recv(64) == b"a request"
            # What is established is not touched: bytes go both ways.
            before.sendall(b"more")
            assert accepted.recv(64) == b"more"
            accepted.sendall(b"an answer")
            assert before.recv(64) == b"an answer"
        with pytest.raises(ConnectionRefusedError):
            after.result(_SECONDS)


def test_the_kernel_ends_connections_whose_client_is_gone() -> None:
    with listen(ServerSettings(port=0, write_timeout_seconds=7)) as listener:
        listener.listen(1)
        with socket.create_connection(listener.getsockname()):
            served, _ = listener.accept()
            with served:
                assert served.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


@pytest.mark.skipif(sys.platform != "linux", reason="a socket option of Linux")
def test_for_a_client_that_reads_nothing_the_kernel_takes_little() -> None:
    with listen(ServerSettings(port=0)) as listener, socket.socket() as client:
        listener.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            taken = 0
            with suppress(BlockingIOError):
                while taken < _MUCH_BYTES:
                    taken += accepted.send(bytes(16_384))
    assert taken < _MUCH_BYTES
