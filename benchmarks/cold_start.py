"""From the command to the first 200 of /readyz, on a database that is there already."""

import statistics
import time

from benchmarks.report import table
from benchmarks.stage import Stage

_STARTS = 5


async def measure_cold_start(stage: Stage) -> str:
    """Start and stop the gateway some times."""
    data = stage.folder / "cold"
    with stage.gateway(data):
        pass
    times, cpu, memory = [], [], []
    for _ in range(_STARTS):
        began = time.perf_counter()
        with stage.gateway(data) as gateway:
            times.append(time.perf_counter() - began)
            cpu.append(gateway.processes.cpu_seconds())
            memory.append(gateway.at_rest)
    columns = ("median s", "slowest s", "CPU s", "MB at rest")
    return table(
        f"Cold start, SQLite, {_STARTS} times",
        columns,
        [
            [
                f"{statistics.median(times):.2f}",
                f"{max(times):.2f}",
                f"{statistics.median(cpu):.2f}",
                f"{statistics.median(memory) / 1e6:.0f}",
            ]
        ],
    )
