"""A fast upstream: canned answers with fresh ids, so that what is measured is what stands before it.

`python -m benchmarks.upstream` prints its port. A request says in its input, which every gateway passes on, how many
events of a stream it wants and how far apart: `events=50 pause_ms=20`.
"""

import asyncio
import itertools
import random
import re
import time
from collections.abc import Iterator, Sequence
from typing import cast

import uvloop

from benchmarks.answers import (
    AT,
    FRAMING_EVENTS,
    ID,
    RECEIVED,
    chat_completion,
    chat_stream,
    embeddings,
    models,
    response,
    response_stream,
)

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_EVENTS = re.compile(rb"events=(\d+)")
_PAUSE = re.compile(rb"pause_ms=(\d+)")
_STREAM = re.compile(rb'"stream": *true')
# Of a large body its beginning says it all.
_KEPT_BYTES = 65_536
# Some ask for a stream even when their client wants a whole answer: as long as that answer is.
_EVENTS_UNASKED = FRAMING_EVENTS + 6
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection."""

    _response = response()
    _chat_completion = chat_completion()
    _embeddings = embeddings()
    _models = models()

    def __init__(self, ids: Iterator[bytes]) -> None:
        self._ids = ids

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._head = bytearray()
        self._missing = -1
        self._length = 0

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end)
            self._length = int(length[1]) if length else 0
            self._missing = self._length + end + 4 - len(self._head)
        else:
            self._missing -= len(data)
            if len(self._head) < _KEPT_BYTES:
                self._head += data
        if self._missing <= 0:
            self._answer(bytes(self._head[:_KEPT_BYTES]))
            self._head.clear()
            self._missing = -1

    def _answer(self, request: bytes) -> None:
        chat = request.startswith(b"POST /v1/chat/completions ")
        if _STREAM.search(request):
            asked = _EVENTS.search(request)
            count = int(asked[1]) if asked else _EVENTS_UNASKED
            self._stream(chat_stream(count) if chat else response_stream(count), _PAUSE.search(request))
        elif chat:
            self._write_whole(self._chat_completion)
        elif request.startswith(b"POST /v1/embeddings "):
            self._write_whole(self._embeddings)
        elif request.startswith(b"GET "):
            self._write_whole(self._models)
        else:
            self._write_whole(self._response.replace(RECEIVED, b"%012d" % self._length))

    def _write_whole(self, body: bytes) -> None:
        body = body.replace(ID, next(self._ids))
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    def _stream(self, frames: Sequence[bytes], pause: re.Match[bytes] | None) -> None:
        fresh = next(self._ids)
        self._transport.write(_STREAM_HEAD)
        if pause:
            self._send_paced(frames, 0, fresh, int(pause[1]) / 1000)
        else:
            for frame in frames:
                self._transport.write(frame.replace(ID, fresh))
            self._transport.write(_LAST_CHUNK)

    def _send_paced(self, frames: Sequence[bytes], number: int, fresh: bytes, pause: float) -> None:
        if self._transport.is_closing():
            return
        frame = frames[number].replace(ID, fresh).replace(AT, b"%020d" % time.monotonic_ns())
        if number == len(frames) - 1:
            self._transport.write(frame + _LAST_CHUNK)
            return
        self._transport.write(frame)
        asyncio.get_running_loop().call_later(pause, self._send_paced, frames, number + 1, fresh, pause)


async def serve() -> asyncio.Server:
    """Listen on a free loopback port."""
    # As random as real ones: the pages of an index of them lie as far apart.
    ids = (b"%048x" % random.getrandbits(192) for _ in itertools.count())
    return await asyncio.get_running_loop().create_server(lambda: Upstream(ids), "127.0.0.1", 0, backlog=4096)


async def main() -> None:
    """Serve until killed."""
    server = await serve()
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
