"""Runs what fills a database in a process of its own, while no gateway has it."""

import asyncio
import os
import sys
from pathlib import Path

from benchmarks.postgres import Postgres


async def fill(module: str, data: Path, *arguments: object, postgres: Postgres | None = None) -> int:
    """The number that the module prints when it has filled the database of this data folder, or this PostgreSQL."""
    environment = {"PATH": os.defpath, **({"DATABASE_URL": postgres.url} if postgres else {})}
    filling = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, str(data), *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    told, _ = await filling.communicate()
    if filling.returncode:
        raise RuntimeError("the database could not be filled")
    return int(told)
