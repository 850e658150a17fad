"""Run the rules of the lifecycle so often in one world, and look at what all runs together have left."""

import time

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fakes.lifecycle import World
from tests.fakes.lifecycle_rules import ENDED, ORPHAN_SECONDS, Lifecycle

FEW = pytest.param(0, 2)
MANY = [
    pytest.param(1, 20, marks=pytest.mark.slow),
    *[pytest.param(number, 20, marks=pytest.mark.faults) for number in range(2, 11)],
]
"""Numbers and runs: two in `make test`, 20 in `make test-slow`, 180 more with `make test-faults ARGS=tests/live`."""

_STEPS = 12


def check(machine: type[Lifecycle], world: World, runs: int, number: int) -> None:
    """Run the machine so often in this world; each `number` has runs of its own."""
    here = type("Here", (machine,), {"world": world})
    run_state_machine_as_test(
        seed(number)(here),
        settings=settings(
            max_examples=runs,
            stateful_step_count=_STEPS,
            deadline=None,
            # What happens is not the same twice (a run ends when it ends), so that nothing can be shrunk.
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    world.go_on()
    # One that was begun, but deleted by nobody, also ends where its owner crashed.
    deadline = time.monotonic() + ORPHAN_SECONDS
    while not all(world.client().responses.retrieve(run).status in ENDED for run in world.unfinished):
        assert time.monotonic() < deadline, "they never ended"
        time.sleep(0.1)
    world.check_payments()
