"""Running processes and all they start: their CPU time and memory, from the operating system's accounting (Linux)."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 30


@dataclass(frozen=True)
class Processes:
    """A tree of processes, by the pid of its root."""

    root: int

    def cpu_seconds(self) -> float:
        """CPU time so far. A process that ended in between takes its share with it."""
        return sum(map(_cpu, self._pids()))

    def memory_bytes(self) -> int:
        """Resident memory now, pages that several share counted in each."""
        return sum(map(_memory, self._pids()))

    def _pids(self) -> list[int]:
        found = [self.root]
        for pid in found:
            found.extend(map(int, _read(pid, f"task/{pid}/children").split()))
        return found


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end and wait; one that does not is killed."""
    process.terminate()
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cpu(pid: int) -> float:
    # In nanoseconds for each thread; the usual accounting counts ticks of 10 ms, too coarse for a proxy written in C.
    threads = (_read(pid, f"task/{thread}/schedstat") for thread in _threads(pid))
    return sum(int(times.split()[0]) for times in threads if times) / 1e9


def _memory(pid: int) -> int:
    pages = _read(pid, "statm")
    return int(pages.split()[1]) * _PAGE if pages else 0


def _threads(pid: int) -> list[str]:
    try:
        return [thread.name for thread in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return []


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
