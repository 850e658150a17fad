"""Tell from the kernel whether a client is still there, and whether it takes what it is sent."""

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Callable
from enum import Enum

# Where the system does not tell (macOS), a client that ended its side while nothing is read from it is seen later.
_ENDED = getattr(select, "POLLRDHUP", 0)
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
_LOOKS = 8
# The time in which most answers to those who end their side are given, unprobed; and that in which a reset is here.
_PEER_SECONDS = 0.6
_PROBE_SECONDS = 0.1


class PeerState(Enum):
    """How a client's side of the connection stands. Who has ended it may still read, or be gone."""

    OPEN = "open"
    ENDED = "ended"
    GONE = "gone"


def state_of(transport: asyncio.BaseTransport) -> PeerState:
    """The state of the client, though bytes of it wait to be read."""
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
    """The bytes that were written, and that the client has not acknowledged."""
    waiting = transport.get_write_buffer_size()
    return waiting + _counted(transport, termios.TIOCOUTQ)


def unread_bytes(transport: asyncio.BaseTransport) -> int:
    """The bytes that the client has sent, and that were not read: to close now would reset the connection over them."""
    return _counted(transport, termios.FIONREAD)


def _counted(transport: asyncio.BaseTransport, request: int) -> int:
    """What the kernel counts of the transport's socket; 0 where it does not tell."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(socket.fileno(), request, bytes(4)))
    except OSError:
        return 0
    return int(count)


class PeerWatch:
    """Looks after the client while its connection is not read, which is what shows its end otherwise.

    Looks as long as `is_needed`. Aborts the transport of a client that is gone. Calls `probe` when it has ended its
    side, to find out; returns whether that has written anything.
    """

    def __init__(self, transport: asyncio.Transport, is_needed: Callable[[], bool], probe: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_needed = is_needed
        self._probe = probe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on."""
        if self._timer is None:
            self._look_after(_PEER_SECONDS)

    def stop(self) -> None:
        """Look no more."""
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
    """Ends a connection whose client has taken nothing for `seconds`, though something waits for it.

    To be started when the transport's buffer is full, and stopped when there is room in it again.
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
        """Count from now on."""
        self._left = self._unsent(self._transport)
        self._since = self._loop.time()
        if self._timer is None:
            self._look_later()

    def stop(self) -> None:
        """Count no more."""
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
