"""Those who sent more than one request at once wait for each other, and nobody else for them."""

import asyncio

from app.server.http.loop_fairness import PipelineTurns


async def test_a_turn_of_the_loop_serves_a_few_of_those_that_wait() -> None:
    turns, served = PipelineTurns(), list[int]()
    for number in range(100):
        turns.join(lambda number=number: served.append(number))  # type: ignore[misc]
    looks = 0
    while len(served) < 100:
        before = len(served)
        await asyncio.sleep(0)
        looks += 1
        assert len(served) - before <= 4
    assert looks >= 25
    assert served == list(range(100))


async def test_those_that_join_again_come_after_those_that_wait() -> None:
    turns, served = PipelineTurns(), list[str]()

    def again(name: str) -> None:
        served.append(name)
        if len(served) < 9:
            turns.join(lambda: again(name))

    for name in "abc":
        turns.join(lambda name=name: again(name))  # type: ignore[misc]
    while len(served) < 9:
        await asyncio.sleep(0)
    assert "".join(served[:9]) == "abcabcabc"


async def test_one_that_fails_costs_the_others_nothing() -> None:
    turns, served = PipelineTurns(), list[int]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: served.append(-1))

    def fail() -> None:
        raise ValueError

    turns.join(fail)
    for number in range(3):
        turns.join(lambda number=number: served.append(number))  # type: ignore[misc]
    for _ in range(5):
        await asyncio.sleep(0)
    assert sorted(served) == [-1, 0, 1, 2]
