"""Open the app once its database is there, and close everything in order when it ends."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from app.api.services import Services


def opening(loads: Iterable[Callable[[], Awaitable[object]]], services: Services) -> Callable[[], Awaitable[None]]:
    """Make the function that opens the app once its database is there: run `loads`, then start the periodic tasks."""

    async def open_() -> None:
        for load in loads:
            await load()
        services.periodic_tasks.start()
        services.readiness.serves()

    return open_


def lifespan(
    closing: Iterable[Callable[[], Awaitable[None]]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Make the ASGI lifespan, which closes everything in order when the app ends."""

    @asynccontextmanager
    async def until_end(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for close in closing:
                await close()

    return until_end
