"""Whole answers in JSON: made off the loop where they are large, and written piece by piece."""

import asyncio
from collections.abc import Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.byte_budget import Reservation
from app.relay.client import pieces
from app.wire.body import LARGE_BYTES

# A list is made of what is shown of each item, and then of all of these together.
_COPIES = 2


class JsonAnswer(Response):
    """A body of JSON, handed on as the client reads it: what it has not read yet is held once."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece, follows in pieces(bytes(self.body)):
            await send({"type": "http.response.body", "body": piece, "more_body": follows})


async def list_answer(make: Callable[[], bytes], size: int, held: Reservation) -> JsonAnswer:
    """The answer that `make` makes of so many bytes of items. Afterwards no more is held than the answer."""
    await held.add(size * _COPIES)
    body = await asyncio.to_thread(make) if size >= LARGE_BYTES else make()
    held.shrink(len(body))
    return JsonAnswer(body)
