"""An upstream for loads, as a process: its answer follows from the request, so that any client can check each byte.

`python -m tests.faults.upstream` prints its port. The model's name says how it answers: `paced` over two seconds,
`flood` with 20 MB of events, any other at once.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence

import orjson

from tests.fakes.streams import frame, item, response, story

_PACE_SECONDS = 0.35
_EVENT_BYTES = 4000
_FLOOD_EVENTS = 5000
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"


def response_id(said: str) -> str:
    """The id of the answer to this input."""
    return f"resp_{hashlib.sha256(said.encode()).hexdigest()[:48]}"


def frames(said: str) -> list[bytes]:
    """The events of the answer to this input."""
    return story(response_id(said), f"You said {said}")


async def _chunks(writer: asyncio.StreamWriter, chunks: Sequence[bytes], pause: float) -> None:
    for chunk in chunks:
        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await writer.drain()
        if pause:
            await asyncio.sleep(pause)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _answer(writer: asyncio.StreamWriter, body: bytes) -> None:
    asked = orjson.loads(body)
    given = asked["input"]
    said = given if isinstance(given, str) else given[-1]["content"][-1]["text"]
    model = asked["model"]
    if not asked.get("stream"):
        whole = orjson.dumps(response(response_id(said), "completed", [item(f"You said {said}")]))
        writer.write(_HEAD % b"application/json")
        await _chunks(writer, [whole], 0)
        return
    writer.write(_HEAD % b"text/event-stream")
    if model == "flood":
        event = frame("response.output_text.delta", 1, output_index=0, delta="x" * _EVENT_BYTES)
        await _chunks(writer, [frames(said)[0], *[event] * _FLOOD_EVENTS], 0)
    else:
        await _chunks(writer, frames(said), _PACE_SECONDS if model == "paced" else 0)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            await _answer(writer, await reader.readexactly(length))
    writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
