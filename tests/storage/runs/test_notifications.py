"""Replicas on PostgreSQL tell each other of runs: each hears the others, also after its connection was lost."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from app.errors import StorageError
from app.storage.engine.database import Database
from app.storage.engine.location import DatabaseLocation
from app.storage.engine.postgres import listening
from app.storage.runs.notifications import Notifications
from tests.conftest import COMMIT_TIMEOUT, run_sql
from tests.fakes.duty import on_duty


class Listening:
    """A replica, and the runs that it heard of."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
        self.notifications = Notifications(url, self.database)
        self.heard: list[int] = []

    async def listen(self) -> None:
        await self.notifications.listen(self.heard.append)

    async def hears(self, key: int, teller: "Listening") -> None:
        """Wait until it hears of this run. The other goes on telling: nobody knows when one begins to listen."""
        async with asyncio.timeout(30):
            while key not in self.heard:
                teller.notifications.tell(key)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[Listening]:
    one = Listening(url)
    try:
        async with on_duty(one.listen), on_duty(one.notifications.send, 0.01):
            yield one
    finally:
        await one.notifications.aclose()
        await one.database.aclose()


async def test_each_hears_the_others_and_not_itself(postgresql_url: str) -> None:
    async with replica(postgresql_url) as here, replica(postgresql_url) as there:
        await there.hears(1, here)
        await here.hears(2, there)
        there.heard.clear()
        for key in range(1000, 2000):
            here.notifications.tell(key)
        async with asyncio.timeout(30):
            while 1999 not in there.heard:
                await asyncio.sleep(0.01)
        assert set(range(1000, 2000)) <= {*there.heard}
        assert set(here.heard) == {2}


async def test_a_connection_that_is_lost_is_made_again(postgresql_url: str) -> None:
    async with replica(postgresql_url) as here, replica(postgresql_url) as there:
        await there.hears(1, here)
        run_sql(
            postgresql_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query = 'LISTEN antiphon_runs' AND datname = current_database()",
        )
        await there.hears(2, here)


async def test_a_database_that_is_away_is_told_as_such(unused_tcp_port: int) -> None:
    url = f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/none"
    database = Database(url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    try:
        with pytest.raises(StorageError):
            await Notifications(url, database).listen(lambda _: None)
    finally:
        await database.aclose()


async def test_a_stop_while_it_begins_to_hear_leaves_no_connection_open(postgresql_url: str) -> None:
    url = DatabaseLocation.parse(postgresql_url).url
    for turns in range(20):
        listener = asyncio.create_task(listening(url, "a_channel"))
        await asyncio.sleep(turns / 1000)
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await (await listener).close()
    # One that nobody closed warns, which fails the test.
    gc.collect()
