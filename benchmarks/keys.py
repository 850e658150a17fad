"""What keys cost a call: a hundred upstream keys in place of one, and ten thousand API keys in the database."""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import drive
from benchmarks.loads import asked
from benchmarks.report import failed, table
from benchmarks.stage import Stage
from benchmarks.target import Target
from benchmarks.usage import used

_UPSTREAM_KEYS, _API_KEYS, _CALLING = 100, 10_000, 1000
_REPETITIONS = 5
_CONNECTIONS, _EACH = 32, 150
_COLUMNS = ("gateway", "CPU µs", "times one key of each", "per second", "note")


@dataclass
class _Measured:
    """A gateway, what it is asked, and what that cost each time: CPU seconds a call, and calls a second."""

    name: str
    target: Target
    requests: Sequence[bytes]
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def measure_keys(stage: Stage) -> str:
    """JSON, store: false, 32 in flight, at gateways that differ in their keys alone, in alternation."""
    body = asked(store=False)
    with ExitStack() as ending:
        one = ending.enter_context(stage.gateway(stage.folder / "one-key"))
        upstream_keys = [f"sk-upstream-{number}" for number in range(_UPSTREAM_KEYS)]
        hundred = ending.enter_context(stage.gateway(stage.folder / "hundred-keys", upstream_keys))
        team = ending.enter_context(stage.gateway(stage.folder / "api-keys"))
        issued = await _issue(stage.folder / "api-keys")
        asking = [team.post(body, key) for key in issued[:_CALLING]]
        measured = [
            _Measured("one upstream key, one API key", one, [one.post(body)]),
            _Measured(f"{_UPSTREAM_KEYS} upstream keys", hundred, [hundred.post(body)]),
            _Measured(f"{_API_KEYS:,} API keys, one of them calls", team, asking[:1]),
            _Measured(f"{_API_KEYS:,} API keys, {_CALLING:,} call", team, asking),
        ]
        for _ in range(1 + _REPETITIONS):
            for row in measured:
                await _measure(row, stage)
    return table("Keys: JSON, store: false, 32 in flight", _COLUMNS, [_cells(row, measured[0]) for row in measured])


async def _issue(data: Path) -> list[str]:
    arguments = [str(data), str(_API_KEYS)]
    issuing = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.issue", *arguments, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await issuing.communicate()
    if issuing.returncode:
        raise RuntimeError("the API keys could not be issued")
    return told.decode().split()


async def _measure(row: _Measured, stage: Stage) -> None:
    async with used(row.target, stage.upstream) as usage:
        outcome = await drive(row.target.port, row.requests, connections=_CONNECTIONS, each=_EACH)
    row.cpu.append(usage.cpu / (_CONNECTIONS * _EACH))
    row.rate.append(len(outcome.latencies) / usage.elapsed)
    row.failures += outcome.failures


def _cells(row: _Measured, base: _Measured) -> list[str]:
    # The first time warms up.
    cpu, base_cpu = (statistics.median(measured.cpu[1:]) for measured in (row, base))
    return [
        row.name,
        f"{cpu * 1e6:.0f}",
        f"{cpu / base_cpu:.3f}",
        f"{statistics.median(row.rate[1:]):.0f}",
        failed(row.failures),
    ]
