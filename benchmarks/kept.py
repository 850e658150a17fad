"""What is asked of a database that keeps many turns: a purge beside calls, lists, chains, conversations, usage."""

import asyncio
import random
import time
from pathlib import Path

import orjson

from benchmarks.comparison import Row, measure
from benchmarks.fill import CHAIN_TURNS, CHAINS, chain_turn_id
from benchmarks.fill_kept import CONVERSATION, item_id
from benchmarks.filling import fill
from benchmarks.load import Outcome, connected, drive, percentile
from benchmarks.loads import STORED_LOADS, Load, asked
from benchmarks.postgres import Postgres
from benchmarks.report import NOTHING, failed, table
from benchmarks.stage import Stage
from benchmarks.target import Target

_KEPT = 50_000
_FILL_SECONDS = 1200
_EXPIRED, _ITEMS = 5000, 20_000
_PURGE_SECONDS = 120
_EACH, _BESIDE = 200, 50
# Of hours, by key and model, for each turn.
_SUMS = 5
_PURGED = b"purged responses"
_COLUMNS = (
    *("database", "turns kept", "sums of hours", f"{_EXPIRED:,} purged in s", "stored beside it p50 ms", "longest ms"),
    *("list of input items p50 ms", "p99 ms", f"turn {CHAIN_TURNS + 1} of a chain p50 ms", "p99 ms"),
    *(f"page of a conversation of {_ITEMS:,} p50 ms", "p99 ms", "item added p50 ms", "deleted p50 ms"),
    *("usage of a month by key, 1,000 keys, p50 ms", "note"),
)
_LOAD_COLUMNS = (
    "database",
    "turns kept",
    "load",
    "CPU µs",
    "PostgreSQL CPU µs",
    "per second",
    "p50 ms",
    "p99 ms",
    "note",
)


async def measure_kept(stage: Stage) -> str:
    """Fill each kind of database, and ask a gateway on it."""
    asked_of, loads = [], []
    for data, postgres in ((stage.folder / "kept", None), (stage.postgres_data, stage.postgres)):
        row, rows = await _of(stage, data, postgres)
        asked_of.append(row)
        loads += rows
    return table("Many turns kept", _COLUMNS, asked_of) + "\n" + table("Calls among many turns", _LOAD_COLUMNS, loads)


async def _of(stage: Stage, data: Path, postgres: Postgres | None) -> tuple[list[str], list[list[str]]]:
    count = stage.kept or _KEPT
    with stage.gateway(data, postgres=postgres) as gateway:
        async with connected(gateway.port, Outcome()) as connection:
            original = orjson.loads(await connection.ask(gateway.post(asked())))["id"]
    filled = await fill("benchmarks.fill", data, original, 0, count, _FILL_SECONDS, postgres=postgres)
    sums = await fill("benchmarks.fill_kept", data, original, _EXPIRED, _ITEMS, _SUMS * count, postgres=postgres)
    with stage.gateway(data, postgres=postgres) as gateway:
        purged, beside = await _purge(gateway, data / "log")
        cells, failures = await _ask(gateway, (data / "first-admin-key").read_text().strip())
        loads = [_of_load(load, await measure(load, gateway, stage.upstream), filled) for load in STORED_LOADS]
    row = [
        gateway.name,
        f"{filled:,}",
        f"{sums:,}",
        f"{purged:.1f}",
        _milliseconds(beside, 50),
        _milliseconds(beside, 100),
        *cells,
        failed(beside.failures + failures),
    ]
    return row, loads


def _of_load(load: Load, row: Row, kept: int) -> list[str]:
    database = NOTHING if row.database_cpu is None else f"{row.database_cpu:.0f}"
    figures = (f"{row.rate:.0f}", f"{row.p50:.2f}", f"{row.p99:.2f}", failed(row.failures))
    return [row.target, f"{kept:,}", load.name, f"{row.cpu:.0f}", database, *figures]


async def _purge(gateway: Target, log: Path) -> tuple[float, Outcome]:
    """How long the first sweep takes, and what stored calls see meanwhile, one in flight."""
    # The first call of a process loads what it needs, which is no purge's doing.
    await drive(gateway.port, [gateway.post(asked())], connections=1, each=1)
    began, beside = time.perf_counter(), Outcome()
    while not _has_purged(log) and time.perf_counter() < began + _PURGE_SECONDS:
        some = await drive(gateway.port, [gateway.post(asked())], connections=1, each=_BESIDE)
        beside.latencies += some.latencies
        beside.failures += some.failures
        await asyncio.sleep(0)
    if not _has_purged(log):
        beside.failures.append("nothing was purged")
    return time.perf_counter() - began, beside


async def _ask(gateway: Target, admin_key: str) -> tuple[list[str], list[str]]:
    chosen = random.Random(0)  # noqa: S311 - the same choice in each run, no secret
    tips = [chain_turn_id(chosen.randrange(CHAINS), CHAIN_TURNS - 1) for _ in range(_EACH)]
    items = f"/v1/conversations/{CONVERSATION}/items"
    ids = [item_id(number) for number in chosen.sample(range(_ITEMS), 2 * _EACH)]
    added = {"items": [{"type": "message", "role": "user", "content": "One more."}]}
    asks = {
        "list": [gateway.get(f"/v1/responses/{tip}/input_items") for tip in tips],
        "turn": [gateway.post(asked(previous_response_id=tip)) for tip in tips],
        "page": [gateway.get(f"{items}?after={one}") for one in ids[:_EACH]],
        "add": [gateway.call("POST", items, added)] * _EACH,
        "delete": [gateway.call("DELETE", f"{items}/{one}") for one in ids[_EACH:]],
        "usage": [gateway.call("GET", "/admin/v1/usage?group_by=key", key=admin_key)] * 5,
    }
    seen = {
        name: await drive(gateway.port, requests, connections=1, each=len(requests)) for name, requests in asks.items()
    }
    cells = [_milliseconds(seen[name], percent) for name in ("list", "turn", "page") for percent in (50, 99)]
    cells += [_milliseconds(seen[name], 50) for name in ("add", "delete", "usage")]
    return cells, [failure for outcome in seen.values() for failure in outcome.failures]


def _has_purged(log: Path) -> bool:
    return _PURGED in log.read_bytes()


def _milliseconds(outcome: Outcome, percent: float) -> str:
    return f"{percentile(outcome.latencies, percent) * 1e3:.2f}"
