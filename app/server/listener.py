"""Bind the listening socket, and close it without resetting a connection that has just been made."""

import ctypes
import socket
import struct
import sys
from contextlib import suppress

from app.settings.server import ServerSettings

# Times in seconds, and the count of unanswered probes.
_KEEP_ALIVE_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# What the kernel buffers at most beyond what the client's window and the network have room for.
_UNSENT_BYTES = 16 * 1024
# Linux, asm-generic/socket.h; Python has no name for it.
_SO_ATTACH_FILTER = 26
# Classic BPF, on the TCP header: a packet whose SYN flag is set is dropped, every other one is kept.
_NO_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the flags
        (0x45, 0, 1, 0x02),  # is SYN among them?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # keep
    )
)


def listen(settings: ServerSettings) -> socket.socket:
    """Bind the listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay (40 ms an answer) off only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The server ends the connection of a client that reads nothing; the kernel does once it has the whole answer.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.write_timeout_seconds * 1000))
    # A client whose machine is gone sends nothing, and only this shows it while an upstream thinks.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE_PROBES.items():
        if hasattr(socket, option):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    # For a client that stops reading the kernel would buffer megabytes of the stream. Bytes on their way to a far
    # client do not count.
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(True)
    return listener


def turn_away(listener: socket.socket) -> None:
    """Have the kernel make no new connection, while those it has made can still be accepted.

    Closing a listening socket resets connections that wait to be accepted, whose clients may have sent a request. With
    the first packet of a handshake dropped, no new one waits, and a client that tries again after the close is refused,
    on which a proxy tries another server. Best effort: elsewhere than on Linux nothing is done.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
        filter_ = struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(program))
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
