"""What the tests of relayed calls have in common: chunks of a completion, a call, its entry in the ledger."""

import asyncio
from typing import Any

import httpx
import orjson

from app.storage.usage.tables import usage
from tests.fakes.gateway import LiveGateway
from tests.fakes.ledger import rows

MESSAGES: Any = [{"role": "user", "content": "Go [words:5]"}]
USED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def frames(*chunks: dict[str, Any], done: bool = True) -> list[bytes]:
    """The frames of a stream, one for each chunk."""
    made = [b"data: %b\n\n" % orjson.dumps({"id": "chatcmpl-1", "model": "m-7", **each}) for each in chunks]
    return [*made, b"data: [DONE]\n\n"] if done else made


def said(text: str, ended: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": ended}]}


STREAM = frames(said("Hello "), said("you."), said("", "stop"))
COUNTED = frames(said("Hello "), said("you."), said("", "stop"), {"choices": [], "usage": USED})


async def posted(gateway: LiveGateway, path: str, key: str | None = None, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.post(f"{gateway.base_url}{path}", json=body, headers=gateway.headers(key))


async def ledger(gateway: LiveGateway, count: int = 1) -> list[dict[str, Any]]:
    """The entries of the calls, once there are so many."""
    async with asyncio.timeout(10):
        while len(entries := await asyncio.to_thread(rows, gateway.settings.storage.url, usage)) < count:
            await asyncio.sleep(0.05)
    return entries
