"""One project that writes as fast as it can does not slow the stored calls of another, on two replicas."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from openai import AsyncOpenAI
from sqlalchemy import NullPool, create_engine, make_url, text

from tests.fakes.gateway import GatewayProcess
from tests.faults.children import child
from tests.faults.conftest import Report

_CALLS = 300
_CLIENTS = 12
_MOST_TIMES = 2.0


async def test_a_tenant_that_writes_without_end_slows_no_other(
    tmp_path: Path, empty_postgresql_url: str, report: Report
) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(child("upstream"))
        environment = {
            "DATABASE_URL": empty_postgresql_url,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{await upstream.line()}/v1",
            "OPENAI_API_KEY": "sk-upstream-one",
        }
        gateways = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            gateways.append(GatewayProcess(tmp_path / name, environment))
            stack.callback(gateways[-1].kill)
            await asyncio.to_thread(gateways[-1].start)
        gateways[0].run("projects", "create", "noisy")
        noisy = gateways[0].run("keys", "create", "--name", "noisy", "--project", "noisy").strip().splitlines()[-1]
        urls = [gateway.url for gateway in gateways]
        idle = await _times("idle", gateways[0].key, urls[1])
        # Beside as many calls that only read: what is compared is the cost of the writes, not that of a busy machine.
        usual, _ = await _beside("read", noisy, gateways[0].key, urls)
        slowed, changes = await _beside("write", noisy, gateways[0].key, urls)
        times = statistics.median(slowed) / statistics.median(usual)
        deadlocks = _deadlocks(empty_postgresql_url)
        report("a tenant's writes slow another's stored calls at most twice", _CALLS, f"{times:.2f} times")
        report("the median of those: idle, beside reads, beside writes", _CALLS, _milliseconds(idle, usual, slowed))
        report("two replicas never deadlock", changes, f"{deadlocks} deadlocks")
        assert times <= _MOST_TIMES
        assert deadlocks == 0


async def _beside(kind: str, noisy: str, key: str, urls: Sequence[str]) -> tuple[list[float], int]:
    """The times of stored calls beside a tenant that reads or writes, and how many calls of it were answered."""
    async with child("tenant", noisy, kind, _CLIENTS, *urls) as tenant:
        assert await tenant.line() == "calling"
        times = await _times(kind, key, urls[1])
        answered = await tenant.result()
        assert not answered["refused"], answered
        return times, int(answered["answered"])


async def _times(kind: str, key: str, url: str) -> list[float]:
    """How long each of some stored calls takes, one after the other."""
    times = []
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        for number in range(_CALLS):
            began = time.perf_counter()
            await client.responses.create(model="at once", input=f"{kind} {number}")
            times.append(time.perf_counter() - began)
    return times


def _milliseconds(*measured: list[float]) -> str:
    return ", ".join(f"{statistics.median(times) * 1000:.0f}" for times in measured) + " ms"


def _deadlocks(url: str) -> int:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        found: int = connection.scalar(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    return found
