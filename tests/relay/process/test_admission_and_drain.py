import asyncio

import pytest

from app.errors import OverloadedError
from app.relay.process.admission_and_drain import CallRegistry


def end_nothing() -> None:
    return


async def test_calls_are_admitted_up_to_the_limit_and_again_when_one_ends() -> None:
    registry = CallRegistry(3)
    with registry.admit_now("proj_a"), registry.admit_now("proj_a"):
        with pytest.raises(OverloadedError) as caught, registry.admit_now("proj_a"):
            pytest.fail("a third call was admitted")
        assert caught.value.status == 503
        assert caught.value.headers["retry-after"] == "2"
        assert registry.is_open
    with registry.admit_now("proj_a"):
        pass


async def test_a_call_that_raises_gives_its_place_back() -> None:
    registry = CallRegistry(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="mine"), registry.admit_now("proj_a", end_nothing):
            raise ValueError("mine")


async def test_a_closed_registry_admits_nobody_and_says_when_to_come_back() -> None:
    registry = CallRegistry(1)
    await registry.drain(1, 1)
    assert not registry.is_open
    with pytest.raises(OverloadedError, match="shutting down") as caught, registry.admit_now("proj_a", end_nothing):
        pytest.fail("a call was admitted")
    assert caught.value.headers["retry-after"] == "1"


async def test_a_drain_without_calls_ends_at_once() -> None:
    async with asyncio.timeout(10):
        await CallRegistry(1).drain(3600, 3600)


async def test_a_drain_waits_for_live_calls_and_ends_none_that_finishes_in_time() -> None:
    registry = CallRegistry(3)
    ended: list[str] = []
    release = asyncio.Event()
    admitted = asyncio.Event()

    async def call() -> None:
        with registry.admit_now("proj_a", lambda: ended.append("ended")):
            admitted.set()
            await release.wait()

    task = asyncio.create_task(call())
    await admitted.wait()
    drain = asyncio.create_task(registry.drain(3600, 3600))
    await asyncio.sleep(0)
    assert not registry.is_open
    assert not drain.done()
    release.set()
    async with asyncio.timeout(10):
        await drain
    await task
    assert ended == []


async def test_stragglers_are_asked_to_end_and_waited_for() -> None:
    registry = CallRegistry(3)
    admitted = asyncio.Event()
    asked = asyncio.Event()
    told: list[str] = []

    async def call() -> None:
        with registry.admit_now("proj_a", asked.set):
            admitted.set()
            await asked.wait()
            await asyncio.sleep(0)
            told.append("ended properly")

    task = asyncio.create_task(call())
    await admitted.wait()
    async with asyncio.timeout(10):
        await registry.drain(0.01, 3600)
    assert told == ["ended properly"]
    await task


async def test_a_drain_does_not_wait_for_ever_for_a_call_that_does_not_end() -> None:
    registry = CallRegistry(1)
    asked: list[str] = []
    with registry.admit_now("proj_a", lambda: asked.append("asked")):
        async with asyncio.timeout(10):
            await registry.drain(0.01, 0.01)
    assert asked == ["asked"]


async def test_closing_cancels_the_owned_tasks_and_waits_for_their_end() -> None:
    registry = CallRegistry(1)
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    tasks = [registry.spawn(work()) for _ in range(3)]
    await asyncio.sleep(0)
    await registry.aclose()
    assert seen == ["cleaned up"] * 3
    assert all(task.cancelled() for task in tasks)
    assert not registry.is_open


async def test_closing_also_ends_what_a_cancelled_task_starts_on_its_way_out() -> None:
    registry = CallRegistry(1)
    late: list[asyncio.Task[bool]] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            late.append(registry.spawn(asyncio.Event().wait()))

    registry.spawn(work())
    await asyncio.sleep(0)
    await registry.aclose()
    assert late[0].cancelled()


async def test_a_failed_task_does_not_keep_the_others_from_ending() -> None:
    registry = CallRegistry(1)

    async def fail() -> None:
        raise ValueError("mine")

    failed = registry.spawn(fail())
    waiting = registry.spawn(asyncio.Event().wait())
    await registry.aclose()
    assert waiting.cancelled()
    assert failed.cancelled() or isinstance(failed.exception(), ValueError)


async def test_a_finished_task_is_owned_no_longer() -> None:
    registry = CallRegistry(1)
    await registry.spawn(asyncio.sleep(0))
    await asyncio.sleep(0)
    assert not registry._tasks
    await registry.aclose()


async def test_who_asked_is_told_when_admission_closes_and_nobody_else(registry: CallRegistry) -> None:
    told: list[str] = []
    with registry.when_closing(lambda: told.append("gone")):
        pass
    with registry.when_closing(lambda: told.append("there")):
        assert told == []
        await registry.drain(0, 0)
        assert told == ["there"]
    with registry.when_closing(lambda: told.append("late")):
        assert told == ["there", "late"]


async def test_listeners_have_places_beside_those_of_calls() -> None:
    registry = CallRegistry(2)
    with registry.admit_now("proj_a"), registry.admit_now("proj_b"):
        with registry.listen("proj_a"), registry.listen("proj_b"):
            for admission in (registry.admit_now, registry.listen):
                with pytest.raises(OverloadedError), admission("proj_c"):
                    pytest.fail("one more was admitted")
        # Of both places one project has one.
        with registry.listen("proj_a"), pytest.raises(OverloadedError), registry.listen("proj_a"):
            pytest.fail("a project listens in every place")
    assert not registry._listeners
    assert not registry._listening


async def test_a_call_that_becomes_a_listener_leaves_its_place_to_another_once() -> None:
    registry = CallRegistry(1)
    with registry.admit_now("proj_a") as place, registry.listen("proj_a"):
        place.release()
        with registry.admit_now("proj_b"):
            place.release()
            with pytest.raises(OverloadedError), registry.admit_now("proj_c"):
                pytest.fail("a place was given back twice")


async def test_a_drain_waits_for_listeners_and_asks_them_to_end() -> None:
    registry, asked = CallRegistry(2), asyncio.Event()

    async def listen(called: asyncio.Event) -> None:
        with registry.admit_now("proj_a") as place:
            called.set()
            await closed.wait()
            # Its call came before admission closed.
            with registry.listen("proj_a", asked.set, is_admitted=True):
                place.release()
                await asked.wait()

    begun, closed = asyncio.Event(), asyncio.Event()
    listener = asyncio.create_task(listen(begun))
    await begun.wait()
    with registry.when_closing(closed.set):
        async with asyncio.timeout(30):
            await registry.drain(0.05, 30)
    assert asked.is_set()
    with pytest.raises(OverloadedError, match="shutting down"), registry.listen("proj_a"):
        pytest.fail("a listener was admitted")
    await listener
