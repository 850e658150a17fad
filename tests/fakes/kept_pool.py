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
from app.relay.keeper import Changes, Keeper
from app.relay.roster import Roster
from app.sealing import KeyRing, Vault
from app.settings_upstream import KeySettings, UpstreamSettings
from app.state.health import AccountState
from app.state.upstreams import NOTHING_STORED
from app.storage.condition_store import ConditionStore
from app.storage.database import Database
from app.storage.schema import open_for_migration
from app.storage.upstream_store import UpstreamStore
from app.storage.writer import Writer
from app.upstream.account import account_name
from app.upstream.choice import Wish
from app.upstream.faults import Fault
from app.upstream.lease import Lease
from app.upstream.pool import Pool
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
    keeper: Keeper
    writer: Writer
    conditions: ConditionStore
    clock: "Clock"

    def fail(self, account: str, blame: Any, rest: float | None = None) -> None:
        found = self.pool.account(account)
        assert found is not None
        lease = self.pool.lease(found)
        self.pool.fail(lease, fault(blame, rest))
        lease.end()

    def state(self, account: str) -> AccountState:
        return next(state for state in self.pool.report() if state.name == account)

    def probe(self) -> Lease | None:
        """The lease on the account ONE, ill as it is, once this process may probe it."""
        return self.pool.take(Wish(model="any-model", only=ONE))

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
    roster, changes, clock = Roster(configured, VAULT), Changes(), Clock()
    pool = Pool(roster.upstreams(NOTHING_STORED), 10.0, clock, on_change=changes.note, is_alone=is_alone)
    conditions = ConditionStore(database, writer)
    keeper = Keeper(
        pool,
        changes,
        roster,
        conditions,
        UpstreamStore(database, writer),
        is_alone=is_alone,
        look_seconds=0.05,
        claim_seconds=claim_seconds,
    )
    await keeper.load()
    try:
        async with on_duty(keeper.keep):
            yield Process(pool, keeper, writer, conditions, clock)
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
