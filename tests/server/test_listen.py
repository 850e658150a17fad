"""What every connection inherits from the listening socket."""

import socket

from app.server.run import listen
from app.settings import ServerSettings


def test_the_kernel_ends_connections_whose_client_is_gone() -> None:
    with listen(ServerSettings(port=0, write_timeout_seconds=7)) as listener:
        listener.listen(1)
        with socket.create_connection(listener.getsockname()):
            served, _ = listener.accept()
            with served:
                assert served.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
