"""Those who sent more than one request at once wait for each other, and nobody else for them."""

import asyncio

import pytest

from app.server.turns import Turns


async def test_a_turn_of_the_loop_serves_a_few_of_those_that_wait() -> None:
    turns, served = Turns(), list[int]()
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
    turns, served = Turns(), list[str]()

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
    turns, served = Turns(), list[int]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: served.append(-1))

    def fail() -> None:
        raise ValueError

    turns.join(fail)
    for number in range(3):
        turns.join(lambda number=number: served.append(number))  # type: ignore[misc]
    for _ in range(5):
        await asyncio.sleep(0)
    assert sorted(served) == [-1, 0, 1, 2]


async def test_what_many_have_held_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.turns._TRIM_SECONDS", 0.01)
    trims: list[int] = []
    turns = Turns(lambda: trims.append(1))
    for count, expected in ((10, 0), (60, 1), (10, 1)):
        for _ in range(count):
            turns.join(lambda: None)
        await asyncio.sleep(0.2)
        assert len(trims) == expected
