"""The sweep goes on by itself, also past a database that is down for a moment."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.errors import StorageError
from app.settings import StorageSettings
from app.storage.limit_store import LimitStore
from app.storage.purge import Purge
from app.storage.response_store import ResponseStore
from app.storage.run_store import RunStore
from app.storage.usage_store import UsageStore
from tests.fakes.duty import on_duty
from tests.storage.conftest import MakeResponse

LONG_AGO = 1


class FlakyStore:
    """A store whose first sweep fails, in front of a real one."""

    def __init__(self, store: ResponseStore) -> None:
        self.sweeps = 0
        self.swept = asyncio.Event()
        self._store = store

    async def purge_expired(self, now: int) -> int:
        self.sweeps += 1
        if self.sweeps == 1:
            raise StorageError("down")
        purged = await self._store.purge_expired(now)
        self.swept.set()
        return purged


@pytest.fixture
async def flaky(
    responses: ResponseStore, runs: RunStore, usage: UsageStore, limits: LimitStore
) -> AsyncIterator[FlakyStore]:
    store = FlakyStore(responses)
    settings = StorageSettings(purge_interval_seconds=0.01)
    purge = Purge(store, runs, usage, limits, settings)  # type: ignore[arg-type]  # it has the one method that is used
    async with on_duty(purge.sweep, settings.purge_interval_seconds):
        yield store


async def test_a_sweep_follows_one_that_failed(
    flaky: FlakyStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("old", expires_at=LONG_AGO))
    async with asyncio.timeout(10):
        await flaky.swept.wait()
    assert await responses.read_chain("proj_a", "resp_old", 0) is None
