"""Make large JSON answers off the event loop, and send them piece by piece."""

from collections.abc import Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.relay.stream.client import pieces
from app.runtime.byte_budget import Reservation, Reserve
from app.runtime.compute_thread import ComputeThread
from app.wire.json_body import LARGE_BYTES

# Of a list there are the items, the rendering of each, and the text that these are joined to.
_COPIES = 2


class JsonAnswer(Response):
    """Send a JSON body piece by piece as the client reads it: unread bytes are held once."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece, follows in pieces(bytes(self.body)):
            await send({"type": "http.response.body", "body": piece, "more_body": follows})


def for_list(held: Reservation) -> Reserve:
    """Make the function that reserves a list's bytes before its items are read: all at once, against deadlock."""

    async def reserve(size: int) -> None:
        await held.add(size * _COPIES)

    return reserve


async def list_answer(
    make: Callable[[], bytes], size: int, compute_thread: ComputeThread, held: Reservation
) -> JsonAnswer:
    """Make the answer of `size` bytes of items by `make`; shrink the reservation to the answer's size."""
    body = await compute_thread.run(size, make) if size >= LARGE_BYTES else make()
    held.shrink(len(body))
    return JsonAnswer(body)
