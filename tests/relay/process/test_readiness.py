"""What proxies and early callers are told of a process that starts or ends, or in which something fails."""

from collections.abc import Mapping
from typing import Any

from app.relay.process.admission_and_drain import CallRegistry
from app.relay.process.periodic_tasks import FailingTask
from app.relay.process.readiness import Readiness


class Checked:
    """The database's checks and the periodic tasks, as they stand."""

    def __init__(self, *failing: FailingTask, **found: str) -> None:
        self.failing = failing
        self.found = {"database": "ok", "schema": "ok", **found}

    async def report(self) -> Mapping[str, str]:
        return self.found


async def report(readiness: Readiness, checked: Any) -> tuple[bool, dict[str, str]]:
    registry = CallRegistry(1)
    is_ready, checks = await readiness.report(registry, checked, checked)
    await registry.aclose()
    return is_ready, dict(checks)


def test_a_process_serves_from_its_opening_on_and_says_when_it_leaves() -> None:
    readiness = Readiness()
    assert (readiness.obstacle, readiness.is_leaving) == ("starting", False)
    readiness.serves()
    assert (readiness.obstacle, readiness.is_leaving) == (None, False)
    readiness.leaves()
    assert (readiness.obstacle, readiness.is_leaving) == (None, True)


def test_what_is_waited_for_is_told_until_it_is_there() -> None:
    readiness = Readiness()
    assert not readiness.is_waiting
    readiness.waits("the database cannot be reached")
    assert readiness.is_waiting
    refusal = readiness.unready_error()
    assert "the database cannot be reached" in refusal.message
    assert (refusal.status, int(refusal.headers["retry-after"]) >= 1) == (503, True)
    readiness.serves()
    assert not readiness.is_waiting


async def test_whatever_a_check_finds_makes_it_unready_and_a_failing_duty_is_only_named() -> None:
    readiness = Readiness()
    assert await report(readiness, None) == (False, {"admission": "starting", "reason": "starting"})
    readiness.serves()
    fine = {"admission": "ok", "database": "ok", "schema": "ok"}
    assert await report(readiness, Checked()) == (True, fine)
    assert await report(readiness, Checked(schema="old")) == (False, {**fine, "schema": "old"})
    failing = FailingTask("purge", 0, 1, "locked"), FailingTask("clock", 0, 1, "late")
    named = {**fine, "failing duties": "purge (locked), clock (late)"}
    assert await report(readiness, Checked(*failing)) == (True, named)
    readiness.leaves()
    assert await report(readiness, Checked()) == (False, {**fine, "admission": "draining"})


async def test_a_process_that_admits_no_call_is_unready() -> None:
    readiness, registry = Readiness(), CallRegistry(1)
    readiness.serves()
    await registry.aclose()
    checked: Any = Checked()
    is_ready, checks = await readiness.report(registry, checked, checked)
    assert (is_ready, checks["admission"]) == (False, "closed")
