"""Tell faults of this machine (descriptors, memory, ports, disk, name resolution) from those of an upstream."""

import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import structlog

_QUIET_SECONDS = 10.0

_log = structlog.get_logger("antiphon.upstreams")


@dataclass(frozen=True, slots=True)
class LocalFault:
    """One kind. `message` is for clients, `advice` for the operator. `is_of_names`: another name may be found."""

    code: str
    message: str
    advice: str
    is_of_names: bool = False


_DESCRIPTORS = LocalFault(
    "gateway_descriptors_exhausted",
    "The gateway has no file descriptor left for a connection. Please retry your request.",
    "file descriptors ran out: raise LimitNOFILE (systemd), ulimit -n (shell) or nofile (container), or lower "
    "max_concurrent_requests",
)
_MEMORY = LocalFault(
    "gateway_memory_exhausted",
    "The gateway has no memory left for a connection. Please retry your request.",
    "the system refuses memory for sockets: raise the container's limit or net.ipv4.tcp_mem, or lower "
    "max_concurrent_requests",
)
_PORTS = LocalFault(
    "gateway_ports_exhausted",
    "The gateway has no local address left for a connection. Please retry your request.",
    "no local port or address is free for a connection: widen net.ipv4.ip_local_port_range or lower "
    "max_upstream_connections; for an IPv6 upstream, check that this machine has IPv6",
)
_DISK = LocalFault(
    "gateway_disk_full",
    "The gateway's machine has no space left for a connection. Please retry your request.",
    "the system says that no space is left: free the disk, or raise fs.epoll.max_user_watches",
)
_NAMES = LocalFault(
    "gateway_name_resolution_failed",
    "The gateway could not look up an upstream's name. Please retry your request.",
    "name resolution fails on this machine: check /etc/resolv.conf, the DNS server it names, and that file descriptors "
    "are left",
    is_of_names=True,
)
_CONNECTIONS = LocalFault(
    "gateway_connections_exhausted",
    "All of the gateway's connections to upstreams are in use. Please retry your request.",
    "no connection to an upstream came free within connect_timeout_seconds: raise max_upstream_connections",
)

_OF_ERRNO = {
    errno.EMFILE: _DESCRIPTORS,
    errno.ENFILE: _DESCRIPTORS,
    errno.ENOMEM: _MEMORY,
    errno.ENOBUFS: _MEMORY,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.ENOSPC: _DISK,
}
# The resolver's own numbers, which on some systems are those of other errors. EAI_NONAME is not among them: an answer.
_OF_RESOLVER = {
    socket.EAI_AGAIN: _NAMES,
    socket.EAI_FAIL: _NAMES,
    socket.EAI_SYSTEM: _NAMES,
    socket.EAI_MEMORY: _MEMORY,
}


class LocalFaultError(httpx.ConnectError):
    """No connection could be made, through no fault of its server."""

    def __init__(self, fault: LocalFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def local_fault(error: BaseException) -> LocalFault | None:
    """The fault of this machine that this error of a connection's making tells; None when it is none."""
    if isinstance(error, LocalFaultError):
        return error.fault
    if isinstance(error, httpx.PoolTimeout):
        return _CONNECTIONS
    if isinstance(error, socket.gaierror):
        return _OF_RESOLVER.get(error.errno or 0)
    return _OF_ERRNO.get(error.errno or 0) if isinstance(error, OSError) else None


class LocalFaultLog:
    """Tells operators: at most one line of each kind in ten seconds, with how many there were since the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._count: dict[str, int] = {}

    def tell(self, fault: LocalFault) -> None:
        """Write a line, or count it for the next."""
        now, code = self._clock(), fault.code
        count = self._count[code] = self._count.get(code, 0) + 1
        told = self._told.get(code)
        if told is None or now - told >= _QUIET_SECONDS:
            self._told[code], self._count[code] = now, 0
            _log.error(
                "a fault of this machine keeps calls from upstreams", code=code, times=count, advice=fault.advice
            )
