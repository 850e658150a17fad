"""A deadline over a block of code, and who has precedence when the task is cancelled as well."""

import asyncio

import pytest

from app.deadline import Deadline

BOTH_LOOPS = True


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_what_is_awaited_at_the_deadline_ends_in_a_timeout() -> None:
    with pytest.raises(TimeoutError), Deadline(0.01):
        await forever()
    assert cancellations() == 0


async def test_a_block_that_is_over_in_time_leaves_no_timer() -> None:
    deadline = Deadline(60)
    with deadline:
        await asyncio.sleep(0)
    assert deadline._timer.cancelled()


async def test_an_error_in_the_block_leaves_no_timer() -> None:
    deadline = Deadline(60)
    with pytest.raises(LookupError), deadline:
        raise LookupError
    assert deadline._timer.cancelled()


async def test_a_task_that_is_cancelled_in_time_is_cancelled() -> None:
    async def block() -> None:
        with Deadline(60):
            await forever()

    task = asyncio.ensure_future(block())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_task_that_is_cancelled_after_its_deadline_has_passed_is_cancelled() -> None:
    async def block() -> None:
        with Deadline(0):
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

    with pytest.raises(LookupError), Deadline(0):
        await fail()
    assert cancellations() == 0


async def test_a_task_that_outlived_a_cancellation_gets_its_timeout() -> None:
    async def block() -> None:
        with pytest.raises(asyncio.CancelledError):
            await forever()
        with pytest.raises(TimeoutError), Deadline(0):
            await forever()
        assert cancellations() == 1

    task = asyncio.ensure_future(block())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_of_two_deadlines_the_one_that_passes_ends_its_own_block() -> None:
    with pytest.raises(TimeoutError), Deadline(0):  # noqa: PT012 - that the inner one passes nothing on is the point
        with Deadline(60):
            await forever()
        pytest.fail("The outer deadline went unheard.")
    with Deadline(60):
        with pytest.raises(TimeoutError), Deadline(0):
            await forever()
        await asyncio.sleep(0)


async def test_a_deadline_outside_a_task_is_an_error() -> None:
    loop = asyncio.get_running_loop()
    tried: asyncio.Future[bool] = loop.create_future()

    def enter() -> None:
        with pytest.raises(RuntimeError), Deadline(60):
            pass
        tried.set_result(True)

    loop.call_soon(enter)
    assert await tried
