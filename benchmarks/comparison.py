"""One load at several targets in turn, and what it cost each of them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from benchmarks.load import Outcome, drive, percentile
from benchmarks.loads import Load
from benchmarks.stage import Stage
from benchmarks.target import Target
from benchmarks.usage import used

_WARM_UP_CONNECTIONS = 32
_WARM_UP_EACH = 5


@dataclass(frozen=True)
class Row:
    """One target under one load. CPU in microseconds, times in milliseconds, memory in MB, shares of one core."""

    target: str
    cpu: float
    database_cpu: float | None
    rate: float
    p50: float
    p99: float
    first_byte: float
    delay_p50: float
    delay_p99: float
    failures: list[str]
    at_rest: float
    at_load: float
    afterwards: float
    load_share: float
    upstream_share: float


async def compare(load: Load, stage: Stage) -> list[Row]:
    """The medians of some repetitions, targets in alternation: what else the machine does falls on all alike."""
    targets = stage.targets(load.targets)
    for target in targets:
        warm = min(load.connections, _WARM_UP_CONNECTIONS)
        each = 1 if load.paced else _WARM_UP_EACH
        await drive(target.port, [target.post(load.body, path=load.path)], connections=warm, each=each)
    taken: dict[str, list[Row]] = {target.name: [] for target in targets}
    for _ in range(load.repetitions):
        for target in targets:
            taken[target.name].append(await measure(load, target, stage.upstream))
    return list(map(_median, taken.values()))


async def measure(load: Load, target: Target, upstream: Target) -> Row:
    """One target under this load, once."""
    request, each = target.post(load.body, path=load.path), load.each_of(target.share)
    async with used(target, upstream) as usage:
        outcome = await drive(target.port, [request], connections=load.connections, each=each, rate=load.rate)
    done = max(1, outcome.events if load.per_event else len(outcome.latencies))
    return Row(
        target=target.name,
        cpu=usage.cpu / done * 1e6,
        database_cpu=None if usage.database_cpu is None else usage.database_cpu / done * 1e6,
        rate=len(outcome.latencies) / usage.elapsed,
        **_times(outcome),
        failures=outcome.failures,
        at_rest=target.at_rest / 1e6,
        at_load=usage.peak / 1e6,
        afterwards=usage.after / 1e6,
        load_share=usage.load_cpu / usage.elapsed,
        upstream_share=usage.upstream_cpu / usage.elapsed,
    )


def _times(outcome: Outcome) -> dict[str, float]:
    return {
        "p50": percentile(outcome.latencies, 50) * 1e3,
        "p99": percentile(outcome.latencies, 99) * 1e3,
        "first_byte": percentile(outcome.first_bytes, 50) * 1e3,
        "delay_p50": percentile(outcome.delays, 50) * 1e3,
        "delay_p99": percentile(outcome.delays, 99) * 1e3,
    }


def _median(rows: Sequence[Row]) -> Row:
    figures = {
        field.name: statistics.median(values)
        for field in fields(Row)
        if isinstance((values := [getattr(row, field.name) for row in rows])[0], int | float)
    }
    return replace(rows[0], **figures, failures=[failure for row in rows for failure in row.failures])
