"""The account of bytes: what is granted, what waits, who comes first, and that no two wait for each other."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from app.errors import OverloadedError
from app.runtime.byte_budget import UNCOUNTED_BYTES, ByteBudget, Reservation

MB = 1_000_000
LONG = 60.0


@pytest.fixture
async def budget() -> AsyncIterator[ByteBudget]:
    budget = ByteBudget(10 * MB, LONG)
    yield budget
    assert budget.held == 0
    assert not budget._projects


async def later(reservation: Reservation, size: int) -> asyncio.Task[None]:
    """The wish of this reservation for so much more, which waits."""
    task = asyncio.create_task(reservation.add(size))
    await settle()
    assert not task.done()
    return task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_small_call_is_not_counted_and_many_small_parts_are(budget: ByteBudget) -> None:
    with budget.reservation("a") as held:
        await held.add(UNCOUNTED_BYTES)
        assert budget.held == 0
        await held.add(1)
        assert budget.held == UNCOUNTED_BYTES + 1
        held.shrink(10)
        assert budget.held == 0


async def test_a_project_gets_half_and_another_the_rest(budget: ByteBudget) -> None:
    with budget.reservation("a") as one, budget.reservation("a") as two, budget.reservation("b") as other:
        await one.add(4 * MB)
        waiting = await later(two, 2 * MB)
        await other.add(5 * MB)
        one.shrink(0)
        await waiting
        assert (budget.held_by("a"), budget.held_by("b")) == (2 * MB, 5 * MB)


async def test_one_call_may_be_larger_than_all_when_nothing_else_is_held(budget: ByteBudget) -> None:
    with budget.reservation("a") as large, budget.reservation("b") as other:
        await large.add(50 * MB)
        waiting = await later(other, 1 * MB)
        large.shrink(0)
        await waiting


async def test_two_that_hold_some_and_want_more_do_not_wait_for_each_other(budget: ByteBudget) -> None:
    with budget.reservation("a") as one, budget.reservation("a") as two:
        await one.add(2 * MB)
        await two.add(2 * MB)
        waiting = await later(one, 20 * MB)
        growing = asyncio.create_task(two.add(20 * MB))
        await waiting
        await settle()
        assert not growing.done()
        one.shrink(0)
        await growing
        assert budget.held == 22 * MB


async def test_a_newcomer_takes_nothing_while_all_that_is_held_waits_for_more(budget: ByteBudget) -> None:
    with budget.reservation("a") as one, budget.reservation("a") as two, budget.reservation("a") as new:
        await one.add(2 * MB)
        await two.add(2 * MB)
        first = await later(one, 9 * MB)
        begins = await later(new, 5 * MB)
        second = asyncio.create_task(two.add(9 * MB))
        await first
        one.shrink(0)
        await second
        assert not begins.done()
        two.shrink(0)
        await begins


async def test_the_project_that_holds_least_comes_first(budget: ByteBudget) -> None:
    with (
        budget.reservation("a") as full,
        budget.reservation("a") as more,
        budget.reservation("b") as other,
        budget.reservation("c") as third,
    ):
        await full.add(5 * MB)
        await other.add(5 * MB)
        order: list[str] = []
        tasks = [
            asyncio.create_task(noted(order, "a", more, 2 * MB)),
            asyncio.create_task(noted(order, "c", third, 2 * MB)),
        ]
        await settle()
        assert order == []
        other.shrink(0)
        await settle()
        assert order == ["c"]
        full.shrink(0)
        await asyncio.gather(*tasks)
        assert order == ["c", "a"]


async def noted(order: list[str], name: str, reservation: Reservation, size: int) -> None:
    await reservation.add(size)
    order.append(name)


async def test_who_waits_too_long_is_refused_and_holds_what_it_held() -> None:
    budget = ByteBudget(10 * MB, 0.01)
    with budget.reservation("a") as one, budget.reservation("b") as two:
        await one.add(9 * MB)
        await two.add(1 * MB)
        with pytest.raises(OverloadedError, match="holds as many bytes") as caught:
            await two.add(2 * MB)
        assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "2")
        assert budget.held_by("b") == 1 * MB
        with pytest.raises(OverloadedError):
            two.add_now(2 * MB)


async def test_who_is_cancelled_while_it_waits_gets_nothing(budget: ByteBudget) -> None:
    with budget.reservation("a") as one, budget.reservation("a") as two:
        await one.add(5 * MB)
        waiting = await later(two, 2 * MB)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert two.held == 0
        again = await later(two, 3 * MB)
        # Granted and cancelled in one turn of the loop.
        one.shrink(0)
        again.cancel()
        await asyncio.wait({again})
        assert two.held == 0


async def test_memory_is_given_back_once_much_was_held_and_nothing_is() -> None:
    trims: list[int] = []
    trim: Callable[[], None] = lambda: trims.append(1)  # noqa: E731 - a parameter's value
    budget = ByteBudget(100 * MB, LONG, trim=trim)
    for size, seen in (1 * MB, 0), (40 * MB, 1), (1 * MB, 1):
        with budget.reservation("a") as held:
            await held.add(size)
        assert len(trims) == seen


async def test_what_is_taken_over_is_held_by_one_alone(budget: ByteBudget) -> None:
    with budget.reservation("a") as first, budget.reservation("a") as second:
        await first.add(5 * MB)
        second.take_over(first)
        # More than the project's share: but for this call it holds nothing.
        await second.add(2 * MB)
        first.shrink(0)
        assert (first.held, second.held, budget.held) == (0, 7 * MB, 7 * MB)
