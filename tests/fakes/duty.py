"""A duty of a process, made as the gateway has it made."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from app.relay.duties import Duties, Duty
from app.relay.registry import Registry


@asynccontextmanager
async def on_duty(step: Callable[[], Awaitable[object]], pause: float = 0) -> AsyncIterator[Duties]:
    """Within this context the step is made again and again."""
    registry = Registry(1)
    duties = Duties(registry)
    duties.add(Duty("duty", step, pause))
    duties.start()
    try:
        yield duties
    finally:
        await registry.aclose()
