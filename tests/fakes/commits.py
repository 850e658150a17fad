"""Commits that are held back from outside, and what a gateway's writer does meanwhile."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

from sqlalchemy import NullPool, create_engine, make_url, text

from tests.fakes.gateway import LiveGateway


@asynccontextmanager
async def held_commits(database_url: str) -> AsyncIterator[Callable[[], None]]:
    """Let nobody else write responses, while everybody can read. Yields what lets go early."""
    with ExitStack() as held:
        # In a thread, because a gateway in this loop may be amid a commit that has to end first.
        await asyncio.to_thread(hold_commits, database_url, held)
        yield held.close


def hold_commits(database_url: str, held: ExitStack, *tables: str) -> None:
    """The same until the stack is closed; of several tables only if nobody is writing to any."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        other = sqlite3.connect(url.database, isolation_level=None, check_same_thread=False)
        held.enter_context(closing(other))
        other.execute("BEGIN IMMEDIATE")
    else:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
        locked = f"{', '.join(tables)} IN SHARE MODE NOWAIT" if tables else "responses IN SHARE MODE"
        held.enter_context(engine.begin()).execute(text(f"LOCK TABLE {locked}"))


def next_write(gateway: LiveGateway) -> asyncio.Event:
    """Set once the gateway has handed something to its writer."""
    writer = gateway.app.state.services.responses._writer
    submit, handed = writer.submit, asyncio.Event()

    async def told(write: Any) -> Any:
        handed.set()
        return await submit(write)

    writer.submit = told
    return handed
