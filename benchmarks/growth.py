"""What calls cost as the database grows: writes, GET and chain turns with 10 thousand, 100 thousand, a million rows."""

import random
import time
from pathlib import Path

import orjson

from benchmarks.fill import CHAIN_TURNS, CHAINS, chain_turn_id, response_id
from benchmarks.filling import fill
from benchmarks.load import Outcome, connected, drive, percentile
from benchmarks.loads import asked
from benchmarks.report import failed, table
from benchmarks.stage import Stage
from benchmarks.target import Target
from benchmarks.usage import used

_SIZES, _LARGEST = (10_000, 100_000), 1_000_000
# On a machine that is too slow for the last step, it is told how far it came.
_FILL_SECONDS = 220
_GETS, _TURNS, _WRITERS, _WRITES_EACH = 1000, 300, 32, 100
_COLUMNS = (
    *("responses stored", "MB of disk", "filled a second", "stored a second, 32 in flight", "p99 ms", "GET p50 ms"),
    *("p99 ms", f"turn {CHAIN_TURNS + 1} of a chain p50 ms", "p99 ms", "MB of memory", "note"),
)


async def measure_growth(stage: Stage) -> str:
    """Fill the database step by step, and at each step ask a gateway on it. What is read is chosen at random."""
    data = stage.folder / "growth"
    with stage.gateway(data) as gateway:
        async with connected(gateway.port, Outcome()) as connection:
            original = orjson.loads(await connection.ask(gateway.post(asked())))["id"]
    rows, filled = [], 0
    firsts: list[int] = []
    for size in (*_SIZES, stage.kept or _LARGEST):
        began = time.perf_counter()
        written = await fill("benchmarks.fill", data, original, filled, size - filled, _FILL_SECONDS)
        rate = written / (time.perf_counter() - began)
        firsts.append(filled)
        filled += written
        with stage.gateway(data) as gateway:
            cells = await _measure(stage, gateway, filled, firsts)
        rows.append([f"{filled:,}", f"{_size_of(data) / 1e6:,.0f}", f"{rate:,.0f}", *cells])
    return table("Growth, SQLite", _COLUMNS, rows)


async def _measure(stage: Stage, gateway: Target, filled: int, firsts: list[int]) -> list[str]:
    chosen = random.Random(filled)  # noqa: S311 - the same choice in each run, no secret
    gets = [gateway.get(f"/v1/responses/{response_id(chosen.randrange(filled))}") for _ in range(_GETS)]
    tips = [chain_turn_id(chosen.choice(firsts) + chosen.randrange(CHAINS), CHAIN_TURNS - 1) for _ in range(_TURNS)]
    turns = [gateway.post(asked(previous_response_id=tip)) for tip in tips]
    async with used(gateway, stage.upstream) as usage:
        read = await drive(gateway.port, gets, connections=1, each=_GETS)
        continued = await drive(gateway.port, turns, connections=1, each=_TURNS)
        began = time.perf_counter()
        written = await drive(gateway.port, [gateway.post(asked())], connections=_WRITERS, each=_WRITES_EACH)
        rate = len(written.latencies) / (time.perf_counter() - began)
    return [
        f"{rate:,.0f}",
        f"{percentile(written.latencies, 99) * 1e3:.1f}",
        *(f"{percentile(read.latencies, percent) * 1e3:.2f}" for percent in (50, 99)),
        *(f"{percentile(continued.latencies, percent) * 1e3:.2f}" for percent in (50, 99)),
        f"{usage.after / 1e6:.0f}",
        failed(read.failures + continued.failures + written.failures),
    ]


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
