"""Ask the kernel whether a client is still there, and whether it reads what it is sent."""

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Callable
from enum import Enum

# Where the system lacks the flag (macOS), the end of a client that is not being read is seen later.
_ENDED = getattr(select, "POLLRDHUP", 0)
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
_LOOKS = 8
# In the first time most calls of clients that ended their side are answered, unprobed; in the second a reset arrives.
_PEER_SECONDS = 0.6
_PROBE_SECONDS = 0.1


class PeerState(Enum):
    """Name the state of a client's side of the connection. A client that has ended it may still read, or be gone."""

    OPEN = "open"
    ENDED = "ended"
    GONE = "gone"


def state_of(transport: asyncio.BaseTransport) -> PeerState:
    """Return the state of the client, even while bytes from it are unread."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return PeerState.OPEN
    poll = select.poll()
    poll.register(socket.fileno(), _ENDED)
    events = [happened for _, happened in poll.poll(0)]
    if any(happened & _GONE for happened in events):
        return PeerState.GONE
    return PeerState.ENDED if events else PeerState.OPEN


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Count the bytes that were written and that the client has not acknowledged."""
    waiting = transport.get_write_buffer_size()
    return waiting + _counted(transport, termios.TIOCOUTQ)


def unread_bytes(transport: asyncio.BaseTransport) -> int:
    """Count the bytes that the client has sent and nobody has read: closing now would reset the connection."""
    return _counted(transport, termios.FIONREAD)


def _counted(transport: asyncio.BaseTransport, request: int) -> int:
    """Ask the kernel for a count of the transport's socket; 0 where there is none."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(socket.fileno(), request, bytes(4)))
    except OSError:
        return 0
    return int(count)


class DisconnectWatch:
    """Notice a client's disconnect while its connection is not read, and abort the transport.

    Checks as long as `is_needed()`. Calls `probe` when the client has ended its side, to find out whether it is gone;
    `probe` returns whether it has written anything.
    """

    def __init__(self, transport: asyncio.Transport, is_needed: Callable[[], bool], probe: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_needed = is_needed
        self._probe = probe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Check from now on."""
        if self._timer is None:
            self._look_after(_PEER_SECONDS)

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._is_needed():
            return
        state = state_of(self._transport)
        if state is PeerState.GONE:
            self._transport.abort()
            return
        has_probed = state is PeerState.ENDED and self._probe()
        self._look_after(_PROBE_SECONDS if has_probed else _PEER_SECONDS)

    def _look_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)


class WriteTimeout:
    """Abort a connection whose client has read nothing for `seconds`, though bytes wait for it.

    Start it when the transport's buffer is full, and stop it when there is room again.
    """

    def __init__(self, transport: asyncio.Transport, seconds: float, unsent: Callable[..., int] = unsent_bytes) -> None:
        self._transport = transport
        self._seconds = seconds
        self._unsent = unsent
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._since = 0.0

    def start(self) -> None:
        """Count the time from now on."""
        self._left = self._unsent(self._transport)
        self._since = self._loop.time()
        if self._timer is None:
            self._look_later()

    def stop(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)

    def _look(self) -> None:
        left, now = self._unsent(self._transport), self._loop.time()
        if left < self._left:
            self._since = now
        self._left = left
        if now - self._since < self._seconds:
            self._look_later()
        else:
            self._timer = None
            self._transport.abort()
