"""How long a body may take: as long as it comes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.api import request_body
from app.api.request_body import BodyReader
from app.errors import InvalidRequestError
from app.runtime.byte_budget import ByteBudget
from app.runtime.compute_thread import ComputeThread
from app.settings.server import ServerSettings

JSON = {"content-type": "application/json"}


class Clock:
    """A clock that each piece of a body moves on by so many seconds."""

    def __init__(self, pieces: Sequence[bytes], seconds: float) -> None:
        self.now = 0.0
        self._pieces = list(pieces)
        self._seconds = seconds

    def monotonic(self) -> float:
        return self.now

    async def receive(self) -> dict[str, Any]:
        self.now += self._seconds
        return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces)}


async def read(monkeypatch: pytest.MonkeyPatch, pieces: Sequence[bytes], seconds: float, **limits: Any) -> int:
    clock = Clock(pieces, seconds)
    monkeypatch.setattr(request_body, "time", clock)
    budget = ByteBudget(10_000_000)
    with budget.reservation("a") as held:
        intake_ = BodyReader(ServerSettings(**limits), budget, ComputeThread())
        return await intake_.read(lambda body, _: len(body), JSON, clock.receive, held)


async def test_a_body_that_comes_steadily_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await read(monkeypatch, [b"x" * 2000] * 600, 1) == 1_200_000


async def test_a_body_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequestError, match="1024 bytes a second") as refused:
        await read(monkeypatch, [b"x"] * 600, 1)
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")


async def test_a_short_body_may_be_slow_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await read(monkeypatch, [b"x"] * 29, 1) == 29


async def test_the_rate_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await read(monkeypatch, [b"x"] * 600, 1, min_body_rate=0) == 600
    with pytest.raises(InvalidRequestError, match="5000 bytes"):
        await read(monkeypatch, [b"x" * 2000] * 600, 1, min_body_rate=5000)


async def test_a_body_of_which_nothing_comes_is_given_up() -> None:
    pieces = iter([b"x"])

    async def receive() -> dict[str, Any]:
        piece = next(pieces, None)
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": True}

    with pytest.raises(InvalidRequestError, match="nothing of it came"):
        await BodyReader(ServerSettings(body_timeout_seconds=0.05), ByteBudget(1), ComputeThread()).read_form(
            lambda body, _: body, JSON, receive
        )
