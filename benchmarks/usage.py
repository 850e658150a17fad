"""What a target spends on a block of work: CPU of its processes, wall time, its memory before, at most and after."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.target import Target

_SAMPLE_SECONDS = 0.1


@dataclass
class Usage:
    """CPU and wall time in seconds, memory in bytes; complete when the block has ended.

    `load_cpu` is the load generator's own, `database_cpu` None where no server beside the target keeps its data.
    """

    before: int
    peak: int
    after: int = 0
    cpu: float = 0
    database_cpu: float | None = None
    load_cpu: float = 0
    upstream_cpu: float = 0
    elapsed: float = 0


@asynccontextmanager
async def used(target: Target, upstream: Target) -> AsyncIterator[Usage]:
    """The usage of the block; the upstream's is told beside it."""
    memory = target.processes.memory_bytes()
    usage = Usage(memory, memory)

    async def watch_memory() -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            usage.peak = max(usage.peak, target.processes.memory_bytes())

    database = target.database.cpu_seconds() if target.database else 0
    cpu, upstream_cpu = target.processes.cpu_seconds(), upstream.processes.cpu_seconds()
    load_cpu, started = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch_memory())
        yield usage
        watching.cancel()
    usage.elapsed = time.perf_counter() - started
    usage.load_cpu = time.process_time() - load_cpu
    usage.upstream_cpu = upstream.processes.cpu_seconds() - upstream_cpu
    usage.cpu = target.processes.cpu_seconds() - cpu
    if target.database:
        usage.database_cpu = target.database.cpu_seconds() - database
    usage.after = target.processes.memory_bytes()
    usage.peak = max(usage.peak, usage.after)
