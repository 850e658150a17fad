"""Ports for servers that are started by number, and for addresses where nobody listens."""

import secrets
import socket
from contextlib import suppress

# Below those that the system gives to whoever asks for any port.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """A port that nobody listens on, and that no other socket gets by chance before it is used."""
    while True:
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
