"""A client that names its calls by idempotency keys, and a front that loses an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.fakes.gateway import LiveGateway

_SECONDS = 60.0


class KeyedClient:
    """A client that names its calls."""

    def __init__(self, gateway: LiveGateway, http: httpx2.AsyncClient) -> None:
        self._gateway = gateway
        self.http = http

    async def post(
        self, path: str = "/responses", *, idempotency: str | None = "one", key: str | None = None, **body: Any
    ) -> httpx2.Response:
        headers = self.headers(idempotency, key)
        return await self.http.post(f"{self._gateway.base_url}{path}", json=body or asked(), headers=headers)

    @asynccontextmanager
    async def streaming(self, **body: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        url, headers = f"{self._gateway.base_url}/responses", self.headers("one")
        async with self.http.stream("POST", url, json=asked(stream=True, **body), headers=headers) as answer:
            assert answer.status_code == 200
            yield answer.aiter_raw()

    def headers(self, idempotency: str | None, key: str | None = None) -> dict[str, str]:
        return {**self._gateway.headers(key), **({} if idempotency is None else {"idempotency-key": idempotency})}


def asked(**body: Any) -> dict[str, Any]:
    return {"model": "demo", "input": "Hello!", **body}


@asynccontextmanager
async def client_to(gateway: LiveGateway) -> AsyncIterator[KeyedClient]:
    async with httpx2.AsyncClient(timeout=_SECONDS) as http:
        yield KeyedClient(gateway, http)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


class LosingFront:
    """In front of a gateway: passes on what clients send, and loses the answer to the first request."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = host, int(port)
        self.lost = 0
        self._passing: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, gateway: LiveGateway) -> AsyncIterator[tuple["LosingFront", str]]:
        front = cls(gateway.url)
        async with await asyncio.start_server(front._take, "127.0.0.1", 0) as server:
            yield front, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            for passing in front._passing:
                passing.cancel()
            await asyncio.gather(*front._passing, return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(asyncio.create_task(self._pass(reader, writer)))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)

        async def up() -> None:
            while data := await reader.read(65_536):
                there_writer.write(data)

        sending = asyncio.create_task(up())
        try:
            while data := await there_reader.read(65_536):
                if not self.lost:
                    self.lost += 1
                    return
                writer.write(data)
        finally:
            sending.cancel()
            for each in (writer, there_writer):
                each.close()
            await asyncio.gather(sending, writer.wait_closed(), there_writer.wait_closed(), return_exceptions=True)
