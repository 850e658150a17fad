"""What the tests of this room build: an upstream's settings, a client on a pool of accounts, a scripted server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import UpstreamError
from app.runtime.compute_thread import ComputeThread
from app.settings.gateway import RelaySettings
from app.settings.upstreams import KeySettings, UpstreamSettings
from app.state.account_conditions import Condition
from app.upstream.account import Account
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.call.upstream_call import UpstreamCall
from app.upstream.call.upstream_client import UpstreamClient
from app.upstream.faults.classification import Blame, Fault
from app.upstream.pool.pool import Pool
from app.upstream.transport import AnswerBody, Transport

EVENTS = [b"event: response.created\ndata: {}\n\n", b"event: response.completed\ndata: {}\n\n"]
SSE = b"".join(EVENTS)
KEYS = ("sk-canary-one", "sk-canary-two", "sk-canary-three")


def upstream_settings(url: str = "http://127.0.0.1:9/v1", *keys: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(
        **{"name": "main", "base_url": url, "keys": tuple(SecretStr(key) for key in keys or KEYS[:1]), **more}
    )


def key_settings(secret: str = KEYS[0], **more: Any) -> KeySettings:
    return KeySettings(secret=SecretStr(secret), **more)


def cooling(account: Account, seconds: float) -> Condition:
    """The account is rate-limited, as another process found."""
    return Condition(account.name, "", "cooling", seconds, 0, "HTTP 429")


def fault(blame: Blame, rest: float | None = None) -> Fault:
    return Fault(UpstreamError("No.", status=429 if blame in {"rate", "quota"} else 502), blame, "HTTP 4xx", rest)


class Clock:
    """Monotonic time as a test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def relay_settings(**more: Any) -> RelaySettings:
    # Long, as a busy machine may stand still for seconds: a test of a timeout sets its own.
    patient = {
        "connect_timeout_seconds": 10.0,
        "first_byte_timeout_seconds": 20.0,
        "idle_timeout_seconds": 20.0,
        "pool_wait_seconds": 0,
    }
    return RelaySettings(**{**patient, **more})


NetworkOf = Callable[..., AbstractAsyncContextManager[Transport]]


@dataclass
class Rig:
    """A client over some upstreams, and what it leaves behind."""

    pool: Pool
    client: UpstreamClient
    rendered: list[Account] = field(default_factory=list)

    async def open(self, body: bytes = b'{"model":"m"}', **call: Any) -> UpstreamAnswer:
        def render(account: Account) -> bytes:
            self.rendered.append(account)
            return body

        return await self.client.open(self.call(**{"body_of": render, **call}))

    def call(self, **call: Any) -> UpstreamCall:
        return UpstreamCall(**{"model": "m", "stream": True, "body_of": lambda _: b"{}", **call})

    async def read(self, body: bytes = b'{"model":"m"}', **call: Any) -> bytes:
        """Open, read to the end, close."""
        answer = await self.open(body, **call)
        try:
            return await read_all(answer)
        finally:
            await answer.aclose()

    @property
    def in_flight(self) -> int:
        return sum(self.pool.in_flight(account) for account in self.pool.accounts())


async def read_all(answer: UpstreamAnswer | AnswerBody) -> bytes:
    received = b""
    while chunk := await answer.read():
        received += chunk
    return received


def rig(transport: Transport, *upstreams: UpstreamSettings, **relay: Any) -> Rig:
    settings = relay_settings(**relay)
    pool = Pool(
        upstreams,
        settings.cool_down_seconds,
        wait_seconds=settings.pool_wait_seconds,
        most_waiting=settings.max_waiting_calls,
    )
    return Rig(pool, UpstreamClient(pool, lambda _: transport, settings, ComputeThread()))


@asynccontextmanager
async def serving(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that does what `talk` does; the address it listens on."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            closed.set()

    closed = asyncio.Event()
    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1024)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await closed.wait()


async def failure(call: Awaitable[object]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await call
    return caught.value
