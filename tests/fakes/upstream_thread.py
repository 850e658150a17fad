"""The scripted upstream in a thread of its own, for tests that call gateways without a loop."""

import asyncio
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded

_STATE = {"previous_response_id", "conversation", "background"}


@dataclass(frozen=True)
class Asked:
    """A call as it came, by this key at this time (monotonic), and the words that its users said."""

    key: str
    at: float
    words: list[str]
    is_refused: bool


class UpstreamThread:
    """The demo model behind some keys."""

    def __init__(self) -> None:
        self.calls: list[Asked] = []
        self._refused: dict[str, tuple[Reply, float]] = {}
        self.faults: list[BaseException] = []
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        upstream = cls()
        thread = threading.Thread(target=lambda: asyncio.run(upstream._serve()))
        thread.start()
        upstream._started.wait()
        try:
            yield upstream
        finally:
            assert upstream._loop is not None
            upstream._loop.call_soon_threadsafe(upstream._over.set)
            thread.join()

    @staticmethod
    def keys(count: int) -> Sequence[str]:
        """The names of so many keys."""
        return [f"sk-upstream-{number:03d}" for number in range(count)]

    @property
    def generations(self) -> list[list[str]]:
        """Of each call that was not refused, the words that the users of its history and then its own said."""
        assert not self.faults, self.faults
        return [call.words for call in self.calls if not call.is_refused]

    def refuse(self, key: str, reply: Reply, seconds: float = math.inf) -> None:
        """Answer this to whoever uses the key, for so long."""
        self._refused[key] = reply, time.monotonic() + seconds

    def times(self, key: str) -> list[float]:
        """When a key was used."""
        return [call.at for call in self.calls if call.key == key]

    def key_of(self, word: str) -> str:
        """The key that this was answered for."""
        return next(call.key for call in reversed(self.calls) if call.words[-1] == word and not call.is_refused)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with FakeUpstream() as fake:
            fake.respond = self._respond
            self.url = fake.url
            self._started.set()
            await self._over.wait()

    def _respond(self, request: Recorded) -> Reply | None:
        if request.method != "POST":
            return None
        key = request.headers["authorization"].removeprefix("Bearer ")
        reply, until = self._refused.get(key, (None, 0.0))
        if time.monotonic() > until:
            reply = None
        try:
            self.calls.append(Asked(key, time.monotonic(), _words(request.json), reply is not None))
        except Exception as fault:  # noqa: BLE001 (whoever asks for the calls hears of it)
            self.faults.append(fault)
        return reply


def _words(body: dict[str, Any]) -> list[str]:
    """The words of all user messages in what upstream was sent; it is never told of any state."""
    assert body["store"] is False
    assert _STATE.isdisjoint(body)
    given = body["input"]
    if isinstance(given, str):
        return [given.split()[0]]
    return [_text(item["content"]).split()[0] for item in given if item.get("role") == "user"]


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else content[0]["text"]
