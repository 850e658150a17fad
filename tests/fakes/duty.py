"""A duty of a process, made as the gateway has it made."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from app.relay.process.admission_and_drain import CallRegistry
from app.relay.process.periodic_tasks import PeriodicTask, PeriodicTasks


@asynccontextmanager
async def on_duty(step: Callable[[], Awaitable[object]], pause: float = 0) -> AsyncIterator[PeriodicTasks]:
    """Within this context the step is made again and again."""
    registry = CallRegistry(1)
    duties = PeriodicTasks(registry)
    duties.add(PeriodicTask("duty", step, pause))
    duties.start()
    try:
        yield duties
    finally:
        await registry.aclose()
