"""Responses in the background as a test drives them: ordered, heard as bytes, waited for, taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from sqlalchemy import update

from app.storage.tables import runs
from tests.fakes.gateway import LiveGateway
from tests.fakes.streams import frame, item, response

ENDED = {"completed", "incomplete", "failed", "cancelled"}
_SECONDS = 60.0


def long_story(response_id: str, deltas: int, status: str = "completed") -> list[bytes]:
    """A response in `deltas` + 5 events, in upstream's numbers."""
    done = item("x" * deltas)
    begun = response(response_id, "in_progress")
    frames = [
        frame("response.created", 0, response=begun),
        frame("response.in_progress", 1, response=begun),
        frame("response.output_item.added", 2, output_index=0, item={**done, "status": "in_progress", "content": []}),
    ]
    frames += [frame("response.output_text.delta", 3 + number, item_id="msg_1", delta="x") for number in range(deltas)]
    frames.append(frame("response.output_item.done", 3 + deltas, output_index=0, item=done))
    frames.append(frame(f"response.{status}", 4 + deltas, response=response(response_id, status, [done])))
    return frames


class BackgroundClient:
    """The project's client, over bare HTTP."""

    def __init__(self, base_url: str, key: str, http: httpx2.AsyncClient) -> None:
        self._base_url = base_url
        self._http = http
        self._headers = {"authorization": f"Bearer {key}"}

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, key: str) -> AsyncIterator["BackgroundClient"]:
        async with httpx2.AsyncClient(timeout=_SECONDS, limits=httpx2.Limits()) as http:
            yield cls(f"{url}/v1/responses", key, http)

    async def create(self, **body: Any) -> httpx2.Response:
        asked = {"model": "demo", "input": "Hello!", "background": True, **body}
        return await self._http.post(self._base_url, json=asked, headers=self._headers)

    async def order(self, **body: Any) -> str:
        """The id of a response that is ordered, and not listened to."""
        if body.get("stream"):
            async with self.listening(None, **body) as chunks:
                first = await anext(chunks)
                response_id: str = first.partition(b'"id":"')[2].partition(b'"')[0].decode()
                return response_id
        created = await self.create(**body)
        assert created.status_code == 200, created.text
        return str(created.json()["id"])

    async def ask(self, method: str, response_id: str, path: str = "", **query: Any) -> httpx2.Response:
        url = f"{self._base_url}/{response_id}{path}"
        return await self._http.request(method, url, params=query, headers=self._headers)

    async def ended(self, response_id: str, seconds: float = _SECONDS) -> dict[str, Any]:
        """The response once it has ended."""
        async with asyncio.timeout(seconds):
            while True:
                found: dict[str, Any] = (await self.ask("GET", response_id)).json()
                if found["status"] in ENDED:
                    return found
                await asyncio.sleep(0.02)

    async def status(self, response_id: str, wanted: str, seconds: float = _SECONDS) -> None:
        """Until the response has this status."""
        async with asyncio.timeout(seconds):
            while (await self.ask("GET", response_id)).json()["status"] != wanted:
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def listening(
        self, response_id: str | None, after: int | None = None, **body: Any
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes that are said after an event; without an id, of a response that is ordered with this body."""
        if response_id is None:
            asked = {"model": "demo", "input": "Hello!", "background": True, **body, "stream": True}
            call = self._http.stream("POST", self._base_url, json=asked, headers=self._headers)
        else:
            query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
            call = self._http.stream("GET", f"{self._base_url}/{response_id}", params=query, headers=self._headers)
        async with call as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield answer.aiter_raw()

    async def heard(self, response_id: str, after: int | None = None) -> bytes:
        """All that is said after an event, to the end."""
        async with self.listening(response_id, after) as chunks:
            return b"".join([chunk async for chunk in chunks])


async def until(chunks: AsyncIterator[bytes], mark: bytes) -> bytes:
    """What is said up to this."""
    heard = b""
    while mark not in heard:
        heard += await anext(chunks)
    return heard


async def orphan(gateway: LiveGateway, response_id: str) -> None:
    """Have another process own this run, which is dead."""
    await change_run(gateway, response_id, owner="gone", epoch=runs.c.epoch + 1, lease_until=0)


async def change_run(gateway: LiveGateway, response_id: str, **values: Any) -> None:
    """Change the run's row behind the gateway's back."""

    def work(session: Any) -> None:
        statement = update(runs).where(runs.c.id == response_id).values(values)
        session.write(lambda connection: connection.execute(statement), is_one_statement=False)

    await gateway.app.state.services.health._database.write(work)
