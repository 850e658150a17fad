"""Memory after the first thousand requests and after a hundred thousand: what a process keeps that it should not."""

import orjson

from benchmarks.load import Outcome, connected, drive
from benchmarks.loads import asked, streamed
from benchmarks.report import failed, table
from benchmarks.stage import Stage
from benchmarks.target import Target

_CONNECTIONS = 20
_STEPS = (1_000, 50_000, 100_000)
# Of 20 requests: whole answers, short streams and look-ups, stored and not.
_GETS, _UNSAVED, _SAVED, _STREAMS = 10, 7, 2, 1


async def measure_endurance(stage: Stage) -> str:
    """A mixture of cheap requests on a gateway that has done nothing before."""
    with stage.gateway(stage.folder / "endurance") as gateway:
        requests = await _mixture(gateway)
        memory, failures, done = [gateway.at_rest], list[str](), 0
        for step in _STEPS:
            outcome = await drive(gateway.port, requests, connections=_CONNECTIONS, each=(step - done) // _CONNECTIONS)
            failures += outcome.failures
            done = step
            memory.append(gateway.processes.memory_bytes())
    columns = ("MB at rest", *(f"after {step:,} requests" for step in _STEPS), "note")
    cells = [*(f"{size / 1e6:.1f}" for size in memory), failed(failures)]
    return table("Endurance, SQLite", columns, [cells])


async def _mixture(gateway: Target) -> list[bytes]:
    async with connected(gateway.port, Outcome()) as connection:
        stored = orjson.loads(await connection.ask(gateway.post(asked())))["id"]
    return [
        *[gateway.get(f"/v1/responses/{stored}")] * _GETS,
        *[gateway.post(asked(store=False))] * _UNSAVED,
        *[gateway.post(asked())] * _SAVED,
        *[gateway.post(streamed(10, store=False))] * _STREAMS,
    ]
