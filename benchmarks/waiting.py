"""What a thousand runs that wait and a thousand clients that listen to them cost, and what others see beside them."""

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.load import Outcome, connected, drive
from benchmarks.loads import asked, streamed
from benchmarks.postgres import Postgres, database_of
from benchmarks.report import NOTHING, failed, table
from benchmarks.stage import Stage
from benchmarks.streams import Streams
from benchmarks.target import Target
from benchmarks.usage import used

_WAITING = 1000
# What one project may have running of the 64 runs of a process: they say nothing for as long as this is measured.
_RUNNING, _SILENCE_MS = 56, 240_000
_SETTINGS = {
    "ANTIPHON_BACKGROUND_QUEUE": str(_RUNNING + _WAITING),
    # Nothing waits for what runs, in the end.
    "ANTIPHON_SHUTDOWN_GRACE_SECONDS": "0",
    "ANTIPHON_DRAIN_SECONDS": "0",
}
_REST_SECONDS, _SETTLE_SECONDS = 10, 3
# Each listener gets a comment in it.
_IDLE_SECONDS = 25
_OTHERS = 20
_ROUNDS, _IN_FLIGHT, _EACH = 40, 32, 20
_BEGUN = b"response.output_item.added"
_COLUMNS = (
    *("database", "ordered in s", "% of a core at rest", "with them: gateway", "PostgreSQL", "both"),
    *("another project's run begins after ms", "at most", "while they are ordered"),
    *("stored call alone CPU µs", "beside them", "times", "PostgreSQL CPU µs alone", "beside them", "note"),
)


@dataclass
class _Calls:
    """A gateway, and CPU microseconds of each round of stored calls at it: its own, its database's.

    `idle` is its share of a core without them. It is told by itself, and no part of what a call costs.
    """

    gateway: Target
    idle: float
    cpu: list[float] = field(default_factory=list)
    database_cpu: list[float] = field(default_factory=list)


async def measure_waiting(stage: Stage) -> str:
    """Order them, listen, and do nothing; then have others call, in alternation with a gateway where nobody waits."""
    with ExitStack() as ending:
        databases = [ending.enter_context(database_of(stage.postgres)) for _ in range(2)]
        rows = [await _of(stage, "waiting", (None, None)), await _of(stage, "waiting-postgres", databases)]
    return table(f"{_WAITING:,} runs that wait, each listened to", _COLUMNS, rows)


async def _of(stage: Stage, name: str, databases: Sequence[Postgres | None]) -> list[str]:
    failures: list[str] = []
    data = stage.folder / name
    with ExitStack() as ending:
        gateway = ending.enter_context(stage.gateway(data, postgres=databases[0], settings=_SETTINGS))
        other = await _other_project(gateway, data)
        await drive(gateway.port, [gateway.post(asked())], connections=_IN_FLIGHT, each=5)
        rest = await _idle(stage, gateway, _REST_SECONDS)
        streams, others = (Streams(gateway, ending, failures) for _ in range(2))
        order = gateway.post(streamed(9, _SILENCE_MS, background=True))
        theirs = gateway.post(streamed(9, background=True), other)
        await streams.open([order] * _RUNNING)
        (ids, ordered), meanwhile = await asyncio.gather(
            streams.open([order] * _WAITING, stay=False), _begin(others, theirs, 3)
        )
        await streams.open([gateway.get(f"/v1/responses/{one}?stream=true") for one in ids])
        await asyncio.sleep(_SETTLE_SECONDS)
        waiting = await _idle(stage, gateway, _IDLE_SECONDS)
        begun = await _begin(others, theirs, _OTHERS)
        empty = ending.enter_context(stage.gateway(stage.folder / f"{name}-alone", postgres=databases[1]))
        calls = [_Calls(empty, rest[0]), _Calls(gateway, waiting[0])]
        for _ in range(1 + _ROUNDS):
            for one in calls:
                await _call(stage, one, failures)
    # The first round warms up.
    cpu = [statistics.median(one.cpu[1:]) for one in calls]
    return [
        gateway.name,
        f"{ordered:.1f}",
        *(f"{share * 100:.1f}" for share in (sum(rest), waiting[0])),
        f"{waiting[1] * 100:.1f}" if databases[0] else NOTHING,
        f"{sum(waiting) * 100:.1f}",
        *(f"{seconds * 1e3:.0f}" for seconds in (statistics.median(begun), max(begun), max(meanwhile))),
        *(f"{one:.0f}" for one in cpu),
        f"{cpu[1] / cpu[0]:.3f}",
        *(f"{statistics.median(one.database_cpu[1:]):.0f}" if databases[0] else NOTHING for one in calls),
        failed(failures),
    ]


async def _other_project(gateway: Target, data: Path) -> str:
    """A key of another project than that of the gateway's first."""
    admin_key, made = (data / "first-admin-key").read_text().strip(), Outcome()
    async with connected(gateway.port, made) as connection:
        project = await connection.ask(gateway.call("POST", "/admin/v1/projects", {"name": "other"}, key=admin_key))
        wanted = {"project_id": orjson.loads(project)["id"], "name": "other"}
        key = await connection.ask(gateway.call("POST", "/admin/v1/keys", wanted, key=admin_key))
    return str(orjson.loads(key)["key"])


async def _idle(stage: Stage, gateway: Target, seconds: float) -> tuple[float, float]:
    """What the gateway and its database use of a core while nothing is asked."""
    async with used(gateway, stage.upstream) as usage:
        await asyncio.sleep(seconds)
    return usage.cpu / usage.elapsed, (usage.database_cpu or 0) / usage.elapsed


async def _begin(streams: Streams, request: bytes, count: int) -> list[float]:
    """The seconds until upstream's first words, of so many runs in turn."""
    return [(await streams.begin(request, _BEGUN))[1] for _ in range(count)]


async def _call(stage: Stage, calls: _Calls, failures: list[str]) -> None:
    """A round of stored calls."""
    gateway = calls.gateway
    async with used(gateway, stage.upstream) as usage:
        outcome = await drive(gateway.port, [gateway.post(asked())], connections=_IN_FLIGHT, each=_EACH)
    calls.cpu.append((usage.cpu - calls.idle * usage.elapsed) / (_IN_FLIGHT * _EACH) * 1e6)
    calls.database_cpu.append((usage.database_cpu or 0) / (_IN_FLIGHT * _EACH) * 1e6)
    failures += outcome.failures
