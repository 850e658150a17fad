"""What a run's figures depend on: the machine, the versions, how long the disk takes to keep what it is given."""

import datetime as dt
import os
import platform
import time
from pathlib import Path

from benchmarks.load import percentile
from benchmarks.servers import version

_SYNCS = 200
_BLOCK = 4096


def machine(folder: Path) -> str:
    """Date, system, versions, and the time of fdatasync in this folder, as lines of Markdown."""
    today = dt.datetime.now(tz=dt.UTC).date()
    times = _syncs(folder)
    return (
        f"{today}, {platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {version('haproxy')}, {version('nginx')}.\n"
        f"fdatasync of {_BLOCK // 1024} KB: p50 {percentile(times, 50) * 1e6:.0f} µs, "
        f"p99 {percentile(times, 99) * 1e6:.0f} µs.\n"
    )


def _syncs(folder: Path) -> list[float]:
    path, times = folder / "fdatasync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(os.urandom(_BLOCK))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return times
