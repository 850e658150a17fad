"""Who gets a place when all are taken: projects in turn, none of them all, and nobody waits for ever."""

import asyncio
from contextlib import suppress

import pytest

from app.errors import OverloadedError
from app.relay.process.admission_and_drain import AdmittedCall, CallRegistry

LONG = 60.0


class Calls:
    """Calls that ask for a place; `admitted` has the names of those that have got one, in order."""

    def __init__(self, registry: CallRegistry) -> None:
        self.registry = registry
        self.admitted: list[str] = []
        self.places: list[AdmittedCall] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, names: str) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self._ask(name))
            for _ in range(3):
                await asyncio.sleep(0)

    async def _ask(self, name: str) -> None:
        # Lower and upper case are two projects.
        with suppress(OverloadedError, asyncio.CancelledError):
            self.places.append(await self.registry.admit("lower" if name.islower() else "upper"))
            self.admitted.append(name)

    async def end_one(self) -> None:
        self.places.pop(0).__exit__(None, None, None)
        for _ in range(3):
            await asyncio.sleep(0)


async def test_a_project_never_takes_the_last_places() -> None:
    calls = Calls(CallRegistry(8, wait_seconds=LONG))
    await calls.come("abcdefghij")
    assert calls.admitted == list("abcdefg")
    await calls.come("A")
    assert calls.admitted[-1] == "A"


async def test_the_project_that_holds_least_comes_first_and_each_in_order() -> None:
    calls = Calls(CallRegistry(4, wait_seconds=LONG))
    await calls.come("abcA")
    assert calls.admitted == list("abcA")
    await calls.come("deBC")
    for _ in range(4):
        await calls.end_one()
    assert calls.admitted[4:] == list("BdeC")


async def test_a_call_that_waited_too_long_is_told_to_come_back() -> None:
    registry = CallRegistry(1, wait_seconds=0.01)
    with registry.admit_now("proj_a"):
        with pytest.raises(OverloadedError, match="already serves 1 calls") as caught:
            await registry.admit("proj_b")
        assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "2")
    with await registry.admit("proj_b"):
        pass


async def test_a_call_that_leaves_the_queue_takes_no_place() -> None:
    calls = Calls(CallRegistry(1, wait_seconds=LONG))
    await calls.come("abc")
    calls.tasks["b"].cancel()
    await asyncio.wait({calls.tasks["b"]})
    await calls.end_one()
    assert calls.admitted == ["a", "c"]


async def test_a_place_that_came_as_its_call_was_cancelled_goes_to_the_next() -> None:
    calls = Calls(CallRegistry(1, wait_seconds=LONG))
    await calls.come("ab")
    calls.places.pop().__exit__(None, None, None)
    calls.tasks["b"].cancel()
    await asyncio.wait({calls.tasks["b"]})
    await calls.come("c")
    assert calls.admitted == ["a", "c"]


async def test_those_that_wait_are_sent_away_when_admission_closes() -> None:
    registry = CallRegistry(1, wait_seconds=LONG)
    with registry.admit_now("proj_a"):
        waiting = asyncio.create_task(registry.admit("proj_b"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(registry.drain(LONG, LONG))
        with pytest.raises(OverloadedError, match="shutting down"):
            await waiting
    await closing


async def test_more_than_have_places_do_not_wait() -> None:
    calls = Calls(CallRegistry(1, wait_seconds=LONG))
    await calls.come("a" * 57)
    # One project's; another may wait still.
    with pytest.raises(OverloadedError):
        await calls.registry.admit("lower")
    await calls.come("A" * 8)
    with pytest.raises(OverloadedError):
        await calls.registry.admit("third")
    await calls.registry.drain(0, 0)


async def test_a_call_that_was_asked_to_end_before_it_could_is_asked_once_it_can() -> None:
    registry = CallRegistry(1)
    asked: list[str] = []
    with registry.admit_now("proj_a") as place:
        await registry.drain(0, 0)
        place.on_shutdown(lambda: asked.append("asked"))
    assert asked == ["asked"]
