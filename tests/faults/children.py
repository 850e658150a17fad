"""Processes beside a gateway: they load it, watch it, answer it, and are ended with the test."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

_END_SECONDS = 60.0
# Of the niceness of processes.
_FIRST = -10


class Child:
    """`python -m MODULE ARGUMENTS`. What it prints at its end is its result."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def result(self, seconds: float = _END_SECONDS) -> Any:
        """End its input, and wait for the JSON that it prints."""
        async with asyncio.timeout(seconds):
            told, _ = await self._process.communicate(b"")
        return orjson.loads(told)

    async def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


@asynccontextmanager
async def child(module: str, *arguments: object, niceness: int = 0) -> AsyncIterator[Child]:
    """Start a module of this folder as a process; the context's end kills it."""
    command = ["nice", "-n", str(niceness), sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=None)
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def put_first(pid: int) -> None:
    """Let a process go before all others where that is allowed: it would not share its machine with who attacks it."""
    with suppress(PermissionError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), _FIRST)


def resident_bytes(pid: int) -> int:
    """The memory that a process holds (VmRSS)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """How many threads a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
