"""Calls that are cancelled at any moment leave nothing behind: no descriptor, task, thread or place."""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack

from app.relay.process.admission_and_drain import CallRegistry
from tests.fakes.gateway import running_gateway, upstream_settings
from tests.faults.children import child, open_files
from tests.faults.conftest import Report

_BACK_SECONDS = 60.0
# Longer than an unused connection to upstream is kept.
_STILL_SECONDS = 6.0


async def test_cancelled_calls_leave_nothing_behind(database_url: str, cancellations: int, report: Report) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(child("upstream"))
        served = upstream_settings(f"http://127.0.0.1:{await upstream.line()}/v1", "sk-upstream-one")
        gateway = await stack.enter_async_context(running_gateway(database_url, [served]))
        registry: CallRegistry = gateway.app.state.services.registry

        def held() -> dict[str, int]:
            return {
                "descriptors": open_files(os.getpid()),
                "tasks": len(asyncio.all_tasks()),
                "threads": threading.active_count(),
                "places": len(registry._admitted),
            }

        async def leave(calls: int, seed: int) -> None:
            async with child("leavers", gateway.url, gateway.key, calls, seed) as leavers:
                await leavers.result(seconds=calls)

        await leave(500, 0)  # connections, threads and statements that are kept
        before = await _at_rest(held)
        await leave(cancellations, 1)
        after = await _at_rest(held)
        for name, count in before.items():
            report(
                f"{name} at their baseline after cancelled calls", cancellations, f"{count} before, {after[name]} after"
            )
        assert after["places"] == before["places"] == 0
        assert after["tasks"] <= before["tasks"]
        assert after["threads"] <= before["threads"]
        # Connections to upstream that are kept may be as many as calls were under way.
        assert after["descriptors"] <= before["descriptors"] + 50


async def _at_rest(held: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What is held once it has not changed for some seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _BACK_SECONDS
    now, since = held(), loop.time()
    while loop.time() < min(until, since + _STILL_SECONDS):
        await asyncio.sleep(0.25)
        if (latest := held()) != now:
            now, since = latest, loop.time()
    return now
