"""One create call by each way that a client has to make it: whole, streamed, in the background, over a WebSocket."""

import asyncio
from typing import Any

import httpx
import orjson

from tests.fakes.gateway import LiveGateway
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import events

SURFACES = ("whole", "streamed", "background", "socket")
DONE = b"data: [DONE]\n\n"
_SECONDS = 30.0


async def respond(gateway: LiveGateway, surface: str, **body: Any) -> dict[str, Any]:
    """The response object in the end; where the call is refused, what it is told, with its status."""
    body = {"model": "demo", **body}
    if surface == "socket":
        async with SocketClient.to(gateway) as client:
            last = await client.turn(**body)
        found: dict[str, Any] = last if last["type"] == "error" else last["response"]
        return found
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(), timeout=_SECONDS) as client:
        asked = {"streamed": {"stream": True}, "background": {"background": True}}.get(surface, {})
        answer = await client.post("/responses", content=orjson.dumps({**body, **asked}))
        if answer.status_code != httpx.codes.OK:
            return {"status": answer.status_code, **answer.json()}
        if surface == "streamed":
            told = [event for event in events(answer.content.removesuffix(DONE)) if "response" in event]
            return dict(told[-1]["response"])
        made: dict[str, Any] = answer.json()
        async with asyncio.timeout(_SECONDS):
            while made["status"] in ("queued", "in_progress"):
                await asyncio.sleep(0.02)
                made = (await client.get(f"/responses/{made['id']}")).json()
        return made
