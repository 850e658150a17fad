"""The loads that are compared, each as rows of measured figures."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.load import Outcome, drive, percentile
from benchmarks.targets import Target

_WARM_UP_EACH = 5


@dataclass(frozen=True)
class Load:
    """`connections` at once, `each` requests on every one of them. A gateway is asked with `body` as it is."""

    name: str
    body: Mapping[str, object]
    connections: int
    each: int
    per_event: bool = False


@dataclass(frozen=True)
class Row:
    """One target under one load: the median of the repetitions. CPU in microseconds, times in milliseconds."""

    load: str
    target: str
    cpu: float
    rate: float
    p50: float
    p99: float
    first_byte: float
    memory: float
    failures: int


def _asked(**members: object) -> dict[str, object]:
    return {"metadata": {}, "model": "bench", "input": "Tell me a story about a unicorn.", **members}


def _streamed(events: int, pause_ms: int = 0, **members: object) -> dict[str, object]:
    wanted = {"events": str(events), **({"pause_ms": str(pause_ms)} if pause_ms else {})}
    return _asked(metadata=wanted, stream=True, **members)


LOADS = (
    Load("JSON, store: false, 1 in flight", _asked(store=False), 1, 1500),
    Load("JSON, store: false, 32 in flight", _asked(store=False), 32, 150),
    Load("JSON, stored, 1 in flight", _asked(), 1, 1000),
    Load("JSON, stored, 32 in flight", _asked(), 32, 150),
    Load("200 paced streams, store: false, per event", _streamed(50, 20, store=False), 200, 3, per_event=True),
    Load("200 paced streams, stored, per event", _streamed(50, 20), 200, 3, per_event=True),
    Load("32 unpaced streams, store: false, per event", _streamed(100, store=False), 32, 20, per_event=True),
    Load("32 unpaced streams, stored, per event", _streamed(100), 32, 20, per_event=True),
)


async def compare(load: Load, targets: Sequence[Target], repetitions: int) -> list[Row]:
    """Drive the load at each target in alternation, so that what else the machine does falls on all alike."""
    taken: dict[str, list[Row]] = {target.name: [] for target in targets}
    for target in targets:
        request = target.request(load.body)
        await drive(target.port, request, connections=min(load.connections, 32), each=_WARM_UP_EACH)
    for _ in range(repetitions):
        for target in targets:
            taken[target.name].append(await _measure(load, target))
    return [_median(rows) for rows in taken.values()]


async def _measure(load: Load, target: Target) -> Row:
    before, started = target.cpu_seconds(), time.perf_counter()
    outcome = await drive(target.port, target.request(load.body), connections=load.connections, each=load.each)
    elapsed, cpu = time.perf_counter() - started, target.cpu_seconds() - before
    done = outcome.events if load.per_event else load.connections * load.each
    return Row(
        load.name,
        target.name,
        cpu / done * 1e6 if done else 0,
        load.connections * load.each / elapsed,
        *_times(outcome),
        target.memory_bytes() / 1e6,
        outcome.failures,
    )


def _times(outcome: Outcome) -> tuple[float, float, float]:
    return (
        percentile(outcome.latencies, 50) * 1000,
        percentile(outcome.latencies, 99) * 1000,
        percentile(outcome.first_bytes, 50) * 1000,
    )


def _median(rows: Sequence[Row]) -> Row:
    def middle(figure: Callable[[Row], float]) -> float:
        return statistics.median(map(figure, rows))

    return Row(
        load=rows[0].load,
        target=rows[0].target,
        cpu=middle(lambda row: row.cpu),
        rate=middle(lambda row: row.rate),
        p50=middle(lambda row: row.p50),
        p99=middle(lambda row: row.p99),
        first_byte=middle(lambda row: row.first_byte),
        memory=middle(lambda row: row.memory),
        failures=sum(row.failures for row in rows),
    )
