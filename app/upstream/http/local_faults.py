"""Tell faults of this machine (descriptors, memory, ports, disk, name resolution) from faults of an upstream."""

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
    """Describe a fault of this machine to clients (`message`) and operators. `is_of_names`: others may resolve."""

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
# The resolver's numbers, which on some systems are those of other errors. EAI_NONAME is an answer, not a fault.
_OF_RESOLVER = {
    socket.EAI_AGAIN: _NAMES,
    socket.EAI_FAIL: _NAMES,
    socket.EAI_SYSTEM: _NAMES,
    socket.EAI_MEMORY: _MEMORY,
}


class LocalFaultError(httpx.ConnectError):
    """Report that no connection could be made, through a fault of this machine."""

    def __init__(self, fault: LocalFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def local_fault(error: BaseException) -> LocalFault | None:
    """Return the fault of this machine that this error of making a connection reports; None when it is none."""
    if isinstance(error, LocalFaultError):
        return error.fault
    if isinstance(error, httpx.PoolTimeout):
        return _CONNECTIONS
    if isinstance(error, socket.gaierror):
        return _OF_RESOLVER.get(error.errno or 0)
    return _OF_ERRNO.get(error.errno or 0) if isinstance(error, OSError) else None


class LocalFaultLog:
    """Log local faults: at most one line of each kind in ten seconds, with the count since the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written_at: dict[str, float] = {}
        self._count: dict[str, int] = {}

    def write(self, fault: LocalFault) -> None:
        """Write a line, or count the fault for the next."""
        now, code = self._clock(), fault.code
        count = self._count[code] = self._count.get(code, 0) + 1
        written_at = self._written_at.get(code)
        if written_at is None or now - written_at >= _QUIET_SECONDS:
            self._written_at[code], self._count[code] = now, 0
            _log.error(
                "a fault of this machine keeps calls from upstreams", code=code, times=count, advice=fault.advice
            )
