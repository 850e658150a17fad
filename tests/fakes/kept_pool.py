"""A pool and its keeper, as one of several processes has them, and the time that passes for all."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from app.errors import UpstreamError
from app.relay.pool_sync.served_upstreams import ServedUpstreams
from app.relay.pool_sync.sync import PendingConditions, PoolSync
from app.security.encryption import Vault
from app.security.key_ring import KeyRing
from app.settings.upstreams import KeySettings, UpstreamSettings
from app.state.account_conditions import AccountState
from app.state.upstreams import NOTHING_STORED
from app.storage.engine.database import Database
from app.storage.schema_migration import open_for_migration
from app.storage.upstreams.conditions import ConditionStore
from app.storage.upstreams.store import UpstreamStore
from app.storage.writer.writer import Writer
from app.upstream.account import account_name
from app.upstream.faults.classification import Fault
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.pool import Pool
from app.upstream.pool.selection import PoolRequest
from tests.fakes.duty import on_duty

VAULT = Vault(KeyRing(b"a master secret of some length"))


KEYS = ("sk-canary-one", "sk-canary-two")


_STORED = tuple(KeySettings(secret=SecretStr(key)) for key in KEYS)


MAIN = UpstreamSettings(name="main", base_url="http://127.0.0.1:9/v1", keys=_STORED)


ONE, TWO = (account_name("main", key) for key in KEYS)


SECONDS = 30.0


def fault(blame: Any, rest: float | None = None) -> Fault:
    return Fault(UpstreamError("No."), blame, "scripted", rest=rest)


class Clock:
    """The pool's clock, put forward by the test."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Process:
    """A pool and its keeper, as one of several processes has them."""

    pool: Pool
    pool_sync: PoolSync
    writer: Writer
    conditions: ConditionStore
    clock: "Clock"

    def fail(self, account: str, blame: Any, rest: float | None = None) -> None:
        found = self.pool.account(account)
        assert found is not None
        checkout = self.pool.checkout(found)
        self.pool.fail(checkout, fault(blame, rest))
        checkout.end()

    def state(self, account: str) -> AccountState:
        return next(state for state in self.pool.report() if state.name == account)

    def probe(self) -> Checkout | None:
        """The lease on the account ONE, ill as it is, once this process may probe it."""
        return self.pool.take(PoolRequest(model="any-model", only=ONE))

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not is_so():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def process(
    url: str, *configured: UpstreamSettings, is_alone: bool = False, claim_seconds: int = 30
) -> AsyncIterator[Process]:
    database = Database(url, pool_size=2, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    served_upstreams, changes, clock = ServedUpstreams(configured, VAULT), PendingConditions(), Clock()
    pool = Pool(served_upstreams.upstreams(NOTHING_STORED), 10.0, clock, on_change=changes.note, is_alone=is_alone)
    conditions = ConditionStore(database, writer)
    pool_sync = PoolSync(
        pool,
        changes,
        served_upstreams,
        conditions,
        UpstreamStore(database, writer),
        is_alone=is_alone,
        poll_seconds=0.05,
        claim_seconds=claim_seconds,
    )
    await pool_sync.load()
    try:
        async with on_duty(pool_sync.run):
            yield Process(pool, pool_sync, writer, conditions, clock)
    finally:
        await writer.aclose()
        await database.aclose()


def age(database_url: str, *processes: Process, minutes: int = 1) -> None:
    """Have so many minutes pass, in the database and in these."""
    passed = {"seconds": 60 * minutes}
    with open_for_migration(database_url) as connection:
        connection.execute(
            text("UPDATE conditions SET until = until - :seconds, cooling_until = cooling_until - :seconds"), passed
        )
    for one in processes:
        one.clock.ahead += 60 * minutes
