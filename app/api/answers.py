"""Whole answers in JSON: made off the loop where they are large, and written piece by piece."""

from collections.abc import Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.byte_budget import Reservation, Reserve
from app.offload import Offload
from app.relay.client import pieces
from app.wire.body import LARGE_BYTES

# A list is made of the items, of what is shown of each, and of all of these together.
_COPIES = 2


class JsonAnswer(Response):
    """A body of JSON, handed on as the client reads it: what it has not read yet is held once."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece, follows in pieces(bytes(self.body)):
            await send({"type": "http.response.body", "body": piece, "more_body": follows})


def for_list(held: Reservation) -> Reserve:
    """Reserve what a list of items takes that are to be read. All at once: nobody waits then who holds some."""

    async def reserve(size: int) -> None:
        await held.add(size * _COPIES)

    return reserve


async def list_answer(make: Callable[[], bytes], size: int, offload: Offload, held: Reservation) -> JsonAnswer:
    """The answer that `make` makes of so many bytes of items. Afterwards no more is held than the answer."""
    body = await offload.run(size, make) if size >= LARGE_BYTES else make()
    held.shrink(len(body))
    return JsonAnswer(body)
