"""A deadline over a block of code, and who has precedence when the task is cancelled as well."""

import asyncio

import pytest

from app.runtime.deadline import Deadline

BOTH_LOOPS = True


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_what_is_awaited_at_the_deadline_ends_in_a_timeout() -> None:
    with pytest.raises(TimeoutError), Deadline(0.01).block():
        await forever()
    assert cancellations() == 0


async def test_a_block_that_is_over_in_time_is_forgotten() -> None:
    deadline = Deadline(0.01)
    with deadline.block():
        await asyncio.sleep(0)
    with pytest.raises(LookupError), deadline.block():
        raise LookupError
    assert not deadline._blocks
    await asyncio.sleep(0.05)
    assert cancellations() == 0


async def test_each_block_has_its_own_time_by_one_timer() -> None:
    deadline, loop = Deadline(0.1), asyncio.get_running_loop()
    ends: list[float] = []

    async def block(begins: float) -> None:
        await asyncio.sleep(begins)
        began = loop.time()
        with pytest.raises(TimeoutError), deadline.block():
            await forever()
        ends.append(loop.time() - began)

    await asyncio.gather(block(0), block(0.04), block(0.07))
    assert len(ends) == 3
    assert all(0.09 <= took < 5 for took in ends), ends
    assert deadline._timer is None


async def test_a_task_that_is_cancelled_in_time_is_cancelled() -> None:
    async def block() -> None:
        with Deadline(60).block():
            await forever()

    task = asyncio.ensure_future(block())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_task_that_is_cancelled_after_its_deadline_has_passed_is_cancelled() -> None:
    async def block() -> None:
        with Deadline(0).block():
            try:
                await forever()
            finally:
                task.cancel()

    task = asyncio.ensure_future(block())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_error_after_the_deadline_is_not_hidden() -> None:
    async def fail() -> None:
        try:
            await forever()
        finally:
            raise LookupError

    with pytest.raises(LookupError), Deadline(0).block():
        await fail()
    assert cancellations() == 0


async def test_a_task_that_outlived_a_cancellation_gets_its_timeout() -> None:
    async def block() -> None:
        with pytest.raises(asyncio.CancelledError):
            await forever()
        with pytest.raises(TimeoutError), Deadline(0).block():
            await forever()
        assert cancellations() == 1

    task = asyncio.ensure_future(block())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_of_two_deadlines_the_one_that_passes_ends_its_own_block() -> None:
    with pytest.raises(TimeoutError), Deadline(0).block():  # noqa: PT012 - that the inner one passes nothing on is the point
        with Deadline(60).block():
            await forever()
        pytest.fail("The outer deadline went unheard.")
    with Deadline(60).block():
        with pytest.raises(TimeoutError), Deadline(0).block():
            await forever()
        await asyncio.sleep(0)


async def test_a_deadline_outside_a_task_is_an_error() -> None:
    loop = asyncio.get_running_loop()
    tried: asyncio.Future[bool] = loop.create_future()

    def enter() -> None:
        with pytest.raises(RuntimeError), Deadline(60).block():
            pass
        tried.set_result(True)

    loop.call_soon(enter)
    assert await tried
