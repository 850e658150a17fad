"""A WebSocket client for the live tests: it sends what it is told to, and reads whole turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import orjson
from websockets.asyncio.client import ClientConnection, connect

from tests.fakes.gateway import LiveGateway

SECONDS = 60.0
TERMINAL = ("response.completed", "response.failed", "response.incomplete", "response.done", "error")


class SocketClient:
    """One connection. `text` keeps the messages as they came."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.texts: list[bytes] = []

    @classmethod
    @asynccontextmanager
    async def to(cls, gateway: LiveGateway, path: str = "/v1/responses", **options: Any) -> AsyncIterator[Self]:
        options.setdefault("additional_headers", gateway.headers())
        url = gateway.url.replace("http", "ws", 1) + path
        async with connect(
            url, max_size=None, compression=None, open_timeout=SECONDS, close_timeout=1, **options
        ) as connection:
            yield cls(connection)

    async def create(self, **members: Any) -> None:
        """Send a `response.create`; a member that is given as None is left out."""
        event = {"type": "response.create", "model": "demo", "input": "Hello!", **members}
        await self.send({name: value for name, value in event.items() if value is not None})

    async def send(self, event: object) -> None:
        await self.connection.send(orjson.dumps(event).decode())

    async def event(self) -> dict[str, Any]:
        """The next message."""
        text = await self.text()
        event = orjson.loads(text)
        assert isinstance(event, dict)
        return event

    async def text(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            text = await self.connection.recv(decode=False)
        assert isinstance(text, bytes)
        self.texts.append(text)
        return text

    async def rest(self) -> list[dict[str, Any]]:
        """The events of the turn that is next to end, up to its last."""
        events = [await self.event()]
        while events[-1]["type"] not in TERMINAL:
            events.append(await self.event())
        return events

    async def turn_events(self, **members: Any) -> list[dict[str, Any]]:
        """Ask for one response; its events, when all are here."""
        await self.create(**members)
        return await self.rest()

    async def turn(self, **members: Any) -> dict[str, Any]:
        """Ask for one response and wait for its end; returns the last event."""
        return (await self.turn_events(**members))[-1]

    async def respond(self, **members: Any) -> dict[str, Any]:
        """The response object of a turn that completes."""
        last = await self.turn(**members)
        assert last["type"] == "response.completed", last
        response: dict[str, Any] = last["response"]
        return response

    async def closed(self) -> tuple[int, str]:
        """The code and reason with which the gateway closes, once it does."""
        async with asyncio.timeout(SECONDS):
            await self.connection.wait_closed()
        return self.connection.close_code or 0, self.connection.close_reason or ""
