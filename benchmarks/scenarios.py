"""Every scenario by its name, in the order of a run."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from benchmarks.chains import measure_chains
from benchmarks.cold_start import measure_cold_start
from benchmarks.comparison import compare
from benchmarks.endurance import measure_endurance
from benchmarks.growth import measure_growth
from benchmarks.idle_streams import measure_idle_streams
from benchmarks.kept import measure_kept
from benchmarks.keys import measure_keys
from benchmarks.large_body import measure_large_body
from benchmarks.loads import LOADS, PEER_LOADS, Load
from benchmarks.report import comparison
from benchmarks.stage import Stage
from benchmarks.waiting import measure_waiting


@dataclass(frozen=True)
class Scenario:
    """What is measured, and the coroutine that measures it and returns its Markdown."""

    name: str
    measure: Callable[[Stage], Coroutine[None, None, str]]


async def _compared(load: Load, stage: Stage) -> str:
    return comparison(load, await compare(load, stage))


SCENARIOS = (
    *(Scenario(load.name, partial(_compared, load)) for load in LOADS),
    Scenario("chain turns", measure_chains),
    Scenario("idle streams", measure_idle_streams),
    Scenario("large body", measure_large_body),
    Scenario("keys", measure_keys),
    Scenario("waiting runs", measure_waiting),
    Scenario("cold start", measure_cold_start),
    Scenario("growth", measure_growth),
    Scenario("many turns kept", measure_kept),
    Scenario("endurance", measure_endurance),
)

PEER_SCENARIOS = tuple(Scenario(load.name, partial(_compared, load)) for load in PEER_LOADS)
