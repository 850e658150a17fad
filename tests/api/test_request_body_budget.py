"""A large body is held in the account of bytes before it is read; a small one costs nothing there."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.api.request_body import BodyReader
from app.errors import OverloadedError
from app.runtime.byte_budget import ByteBudget
from app.runtime.compute_thread import ComputeThread
from app.settings.server import ServerSettings

JSON = {"content-type": "application/json"}
PIECE = b"x" * 50_000


def arriving(budget: ByteBudget, pieces: int, seen: list[int]) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A body in so many pieces; `seen` is told what is held as each is asked for."""
    left = iter(range(pieces - 1, -1, -1))

    async def receive() -> dict[str, Any]:
        seen.append(budget.held)
        return {"type": "http.request", "body": PIECE, "more_body": next(left) > 0}

    return receive


def taken(raw: bytes, _depth: int) -> int:
    return len(raw)


async def test_a_small_body_is_not_counted() -> None:
    budget, seen = ByteBudget(1), list[int]()
    with budget.reservation("a") as held:
        headers = {**JSON, "content-length": "50000"}
        assert (
            await BodyReader(ServerSettings(), budget, ComputeThread()).read(
                taken, headers, arriving(budget, 1, seen), held
            )
            == 50_000
        )
    assert seen == [0]


async def test_a_body_of_a_known_length_is_counted_before_a_byte_is_read() -> None:
    budget, seen = ByteBudget(10_000_000), list[int]()
    body_reader = BodyReader(ServerSettings(), budget, ComputeThread())
    headers = {**JSON, "content-length": "500000"}
    with budget.reservation("a") as held:
        assert await body_reader.read(taken, headers, arriving(budget, 10, seen), held) == 500_000
    assert seen == [1_500_000] * 10
    assert budget.held == 0


async def test_a_body_of_an_unknown_length_is_counted_as_it_comes() -> None:
    budget, seen = ByteBudget(10_000_000), list[int]()
    with budget.reservation("a") as held:
        assert (
            await BodyReader(ServerSettings(), budget, ComputeThread()).read(
                taken, JSON, arriving(budget, 40, seen), held
            )
            == 2_000_000
        )
        # What was there when a piece was asked for, but for what no call is asked for.
        assert all(held >= 3 * (number * 50_000 - 65_536) for number, held in enumerate(seen))
    assert seen[0] == 0


async def test_nothing_is_read_of_a_body_for_which_there_is_no_room() -> None:
    budget, seen = ByteBudget(10_000_000), list[int]()
    headers = {**JSON, "content-length": "500000"}
    with budget.reservation("b") as other, budget.reservation("a") as held:
        await other.add(9_900_000)
        with pytest.raises(OverloadedError):
            await BodyReader(ServerSettings(), budget, ComputeThread()).read(
                taken, headers, arriving(budget, 10, seen), held
            )
    assert seen == []
