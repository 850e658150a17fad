"""What a turn costs that continues a chain: CPU, time and bytes sent upstream, by what stands before it."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.load import Connection, Outcome, connected, percentile
from benchmarks.loads import asked
from benchmarks.report import failed, ratio, table
from benchmarks.stage import SQLITE, Stage
from benchmarks.target import Target
from benchmarks.usage import used

_REPETITIONS = 3
_DEPTHS = {0: 100, 1: 100, 10: 100, 100: 60, 1000: 20}
_COMPARED = 100
_LARGE_TURNS, _LARGE_TURN_CHARACTERS, _LARGE_REPEATED = 10, 100_000, 20
_TEXT = "And then?"
_MESSAGE = {"type": "message", "role": "user", "content": _TEXT}


@dataclass
class Continued:
    """What is asked again and again after a chain, how often, and what it costs: one figure for each repetition."""

    name: str
    turns: int
    asks: Mapping[str, object]
    cpu: list[float] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    sent: int = 0


async def measure_chains(stage: Stage) -> str:
    """Continue each chain some times from the same turn, stored, one request in flight."""
    (target,) = stage.targets((SQLITE,))
    outcome = Outcome()
    async with connected(target.port, outcome) as connection:
        chains = await _deep(connection, target)
        chains.append(await _large(connection, target))
    for _ in range(_REPETITIONS):
        for chain in chains:
            await _continue(chain, target, stage.upstream)
    first = statistics.median(chains[0].cpu)
    columns = ("turns before", "CPU µs", "times the first turn", "p50 ms", "p99 ms", "bytes sent upstream", "note")
    return table(
        "Chain turns, SQLite",
        columns,
        [
            [
                chain.name,
                f"{(cpu := statistics.median(chain.cpu)):.0f}",
                ratio(cpu, first),
                f"{percentile(chain.outcome.latencies, 50) * 1e3:.2f}",
                f"{percentile(chain.outcome.latencies, 99) * 1e3:.2f}",
                f"{chain.sent:,}",
                failed(outcome.failures + chain.outcome.failures),
            ]
            for chain in chains
        ],
    )


async def _deep(connection: Connection, target: Target) -> list[Continued]:
    asks, chains = asked(_TEXT), []
    history: list[object] = []
    for depth in range(max(_DEPTHS) + 1):
        if depth in _DEPTHS:
            chains.append(Continued(f"{depth:,}", _DEPTHS[depth], asks))
        if depth == _COMPARED:
            # What the bytes alone cost: their reading, their checking, their sending.
            whole = asked([*history, _MESSAGE], store=False)
            chains.append(Continued(f"0, {depth} in the request, store: false", _DEPTHS[depth], whole))
        answer = await _turn(connection, target, asks)
        asks = asked(_TEXT, previous_response_id=answer["id"])
        history += [_MESSAGE, *answer["output"]]
    return chains


async def _large(connection: Connection, target: Target) -> Continued:
    text = "many words " * (_LARGE_TURN_CHARACTERS // 11)
    asks = asked(text)
    for _ in range(_LARGE_TURNS):
        asks = asked(text, previous_response_id=(await _turn(connection, target, asks))["id"])
    return Continued(f"{_LARGE_TURNS}, of 1 MB in all", _LARGE_REPEATED, {**asks, "input": _TEXT})


async def _continue(chain: Continued, target: Target, upstream: Target) -> None:
    async with connected(target.port, chain.outcome) as connection, used(target, upstream) as usage:
        for _ in range(chain.turns):
            answer = await _turn(connection, target, chain.asks)
            chain.sent = int(answer["metadata"]["received"])
    chain.cpu.append(usage.cpu / chain.turns * 1e6)


async def _turn(connection: Connection, target: Target, asks: Mapping[str, object]) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(await connection.ask(target.post(asks)))
    return answer
