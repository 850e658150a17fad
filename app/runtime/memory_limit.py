"""Find the memory that this process may use, and make the allocator return what is free to the system."""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_MIB = 1024 * 1024
# Calls may hold one part in so many of the memory: they use as much again for moments, and the rest is the
# interpreter's, the database's and the system's.
_PART = 4
_LEAST, _MOST = 32 * _MIB, 384 * _MIB
# Assumed where the physical memory cannot be found out.
_UNKNOWN = 2048 * _MIB

# Of <malloc.h>. Larger blocks are mapped one by one and unmapped when freed; by itself glibc raises this to 32 MB. The
# largest reads of the event loop are 250 KB.
_M_MMAP_THRESHOLD = -3
_MAPPED_BYTES = 64 * 1024


def budget_bytes(workers: int) -> int:
    """Return how many bytes each of so many processes may hold for calls, where the operator has not set it."""
    return min(max(usable_memory() // _PART // workers, _LEAST), _MOST)


def usable_memory(root: Path = Path("/")) -> int:
    """Return the bytes that all processes of this gateway may use: the least of physical memory, cgroups and rlimit."""
    limits = [_physical(), *_cgroup_limits(root)]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits)


class Allocator:
    """Control the C library's allocator, where it is glibc; with any other this does nothing."""

    def __init__(self) -> None:
        self._libc: ctypes.CDLL | None = None
        if sys.platform == "linux":
            with suppress(OSError, AttributeError):
                libc = ctypes.CDLL("libc.so.6")
                libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
                self._libc = libc

    def collect(self) -> None:
        """Free unreachable cycles, and return all free memory to the system. Takes a full garbage collection."""
        gc.collect()
        self.trim()

    def trim(self) -> None:
        """Return free memory to the system."""
        if self._libc is not None:
            self._libc.malloc_trim(0)


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return _UNKNOWN


def _cgroup_limits(root: Path) -> list[int]:
    """Return the limits of this process's control groups and all above them: a group is bounded by its parents."""
    found = []
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            base, name = ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            if not controllers:
                base, name = ("sys/fs/cgroup", "memory.max")
            place = root / base / path.lstrip("/")
            # In a container the path may be the host's, and its own group is what is mounted.
            for folder in (place, *place.parents):
                with suppress(OSError, ValueError):
                    # A group without a limit says "max", which is no number.
                    found.append(int((folder / name).read_text()))
                if folder == root / base:
                    break
    return found
