"""Which databases a test runs on, where both are not worth their time in `make test`; and who locks rows of one."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection, text

from app.storage.engine.database import Database

_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.slow)

# For what the kind of database hardly changes, and a process or hundreds of calls make dear.
sqlite_first = pytest.mark.parametrize("database_url", ["sqlite", _POSTGRESQL], indirect=True)


@asynccontextmanager
async def locked(url: str, statement: str) -> AsyncIterator[None]:
    """Another process's transaction, which holds what this statement locks."""
    other = Database(url, pool_size=1, commit_timeout=60.0)
    held, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        connection.execute(text(statement)).all()
        loop.call_soon_threadsafe(held.set)
        release.wait(60)

    holding = other.write(lambda session: session.write(hold))
    await held.wait()
    try:
        yield
    finally:
        release.set()
        await holding
        await other.aclose()
