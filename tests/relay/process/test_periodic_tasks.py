"""No duty of the gateway ends by an error: it is tried again, seen to fail, and logged once for each change."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.boot.app_factory import create_app
from app.errors import StorageError
from app.relay.process import periodic_tasks as duties_module
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.process.periodic_tasks import PeriodicTask, PeriodicTasks
from app.security.key_ring import KeyRing
from app.settings.gateway import Settings
from app.storage.schema_migration import migrate
from tests.fakes.duty import on_duty


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties_module, "_FIRST_BACK_OFF_SECONDS", 0.001)
    monkeypatch.setattr(duties_module, "_LONGEST_BACK_OFF_SECONDS", 0.004)


class Step:
    """Fails as often as it is told, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.made = 0
        self.failed = asyncio.Event()
        self.succeeded = asyncio.Event()
        self.may_succeed = asyncio.Event()

    async def __call__(self) -> None:
        self.made += 1
        if self._errors:
            raise self._errors.pop(0)
        self.failed.set()
        await self.may_succeed.wait()
        self.succeeded.set()


async def test_a_step_that_fails_is_made_again_and_each_change_is_logged_once() -> None:
    step = Step(StorageError("Down."), StorageError("Still down."), ValueError("sk-secret"))
    with capture_logs() as logs:
        async with asyncio.timeout(20), on_duty(step) as duties:
            await step.failed.wait()
            (failing,) = duties.failing
            assert (failing.name, failing.failures, failing.reason) == ("duty", 3, "ValueError")
            step.may_succeed.set()
            await step.succeeded.wait()
            while duties.failing:
                await asyncio.sleep(0)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("a background duty fails, and is tried again", "warning"),
        ("a background duty goes on", "info"),
    ]
    assert (logs[0]["reason"], logs[1]["failures"]) == ("Down.", 3)


async def test_a_duty_without_a_pause_is_over_when_it_has_succeeded() -> None:
    step = Step(ValueError("once"))
    step.may_succeed.set()
    registry = CallRegistry(1)
    duties = PeriodicTasks(registry)
    duties.add(PeriodicTask("once", step, None))
    duties.start()
    async with asyncio.timeout(20):
        await asyncio.gather(*registry._tasks)
    assert step.made == 2


@pytest.mark.slow
async def test_every_duty_of_the_gateway_goes_on_after_its_first_step_failed(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, storage={"data_dir": tmp_path})
    migrate(settings.storage.url)
    app = create_app(settings, KeyRing(b"0123456789abcdef"))
    gone_on: dict[str, asyncio.Event] = {}

    def failing_first(duty: PeriodicTask) -> PeriodicTask:
        tried = 0
        gone_on[duty.name] = asyncio.Event()

        async def step() -> None:
            nonlocal tried
            tried += 1
            if tried == 1:
                raise OSError("the first step")
            await duty.step()
            gone_on[duty.name].set()

        return duty._replace(step=step)

    duties = app.state.services.periodic_tasks
    duties._tasks = [failing_first(duty) for duty in duties._tasks]
    assert {
        "ledger",
        "ledger recovery",
        "purge of responses",
        "pool sync",
        "key uses",
        "background runs",
    } <= gone_on.keys()
    assert {"conversation leases", "stream leases 1"} <= gone_on.keys()
    async with asyncio.timeout(60), app.router.lifespan_context(app):
        await app.open()
        await asyncio.gather(*(event.wait() for event in gone_on.values()))
