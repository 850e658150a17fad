"""A fast upstream: canned answers with fresh ids, so that what is measured is what stands before it.

`python -m benchmarks.upstream` prints its port. A request says in its metadata what it wants: `events` (a stream of
that many), `pause_ms` between them. A delta carries the time at which it was sent.
"""

import asyncio
import itertools
import re
import secrets
import time
from functools import cache
from typing import cast

import orjson
import uvloop

ID = b"0" * 48
AT = b"9" * 20
# Events of a stream that are not deltas.
FRAMING_EVENTS = 8

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_EVENTS = re.compile(rb'"events": *"(\d+)"')
_PAUSE = re.compile(rb'"pause_ms": *"(\d+)"')
_STREAM = re.compile(rb'"stream": *true')
_KEPT_BYTES = 65_536
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)

_message = {
    "id": f"msg_{'1' * 48}",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Four words of text. " * 6}],
}
_response = {
    "id": f"resp_{ID.decode()}",
    "object": "response",
    "created_at": 1_772_611_588,
    "status": "completed",
    "background": False,
    "completed_at": 1_772_611_589,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "model": "bench",
    "output": [_message],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": False,
    "temperature": 1,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 19,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 28,
    },
    "user": None,
    "metadata": {},
}
_begun_message = _message | {"content": [], "status": "in_progress"}
_WHOLE = orjson.dumps(_response)
_begun = _response | {"status": "in_progress", "output": [], "usage": None, "completed_at": None}


@cache
def events(count: int) -> list[bytes]:
    """The frames of a stream of `count` events, as HTTP chunks; ids and times are placeholders."""
    place = {"output_index": 0, "content_index": 0, "item_id": _message["id"]}
    delta: dict[str, object] = {**place, "delta": "Four words of text. ", "logprobs": [], "obfuscation": AT.decode()}
    steps: list[tuple[str, dict[str, object]]] = [
        ("response.created", {"response": _begun}),
        ("response.in_progress", {"response": _begun}),
        (
            "response.output_item.added",
            {"output_index": 0, "item": _begun_message},
        ),
        ("response.content_part.added", {**place, "part": {"type": "output_text", "text": "", "annotations": []}}),
        *[("response.output_text.delta", delta)] * (count - FRAMING_EVENTS),
        ("response.output_text.done", {**place, "text": "Four words of text. " * 6}),
        ("response.content_part.done", {**place, "part": {"type": "output_text", "text": "", "annotations": []}}),
        ("response.output_item.done", {"output_index": 0, "item": _message}),
        ("response.completed", {"response": _response}),
    ]
    frames = [
        b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, "sequence_number": number, **members}))
        for number, (name, members) in enumerate(steps)
    ]
    return [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames]


class Upstream(asyncio.Protocol):
    """One connection."""

    _ids = (secrets.token_hex(16).encode() + b"%016x" % number for number in itertools.count())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._head = bytearray()
        self._missing = -1

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end)
            self._missing = (int(length[1]) if length else 0) + end + 4 - len(self._head)
        else:
            self._missing -= len(data)
            if len(self._head) < _KEPT_BYTES:
                self._head += data
        if self._missing <= 0:
            self._answer(bytes(self._head))
            self._head.clear()
            self._missing = -1

    def _answer(self, request: bytes) -> None:
        fresh = next(self._ids)
        if not _STREAM.search(request):
            body = _WHOLE.replace(ID, fresh)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            return
        asked, pause = _EVENTS.search(request), _PAUSE.search(request)
        frames = events(int(asked[1]) if asked else 50)
        self._transport.write(_STREAM_HEAD)
        if pause:
            self._send_paced(frames, 0, fresh, int(pause[1]) / 1000)
        else:
            for frame in frames:
                self._transport.write(frame.replace(ID, fresh))
            self._transport.write(b"0\r\n\r\n")

    def _send_paced(self, frames: list[bytes], number: int, fresh: bytes, pause: float) -> None:
        if self._transport.is_closing():
            return
        frame = frames[number].replace(ID, fresh).replace(AT, b"%020d" % time.monotonic_ns())
        if number == len(frames) - 1:
            self._transport.write(frame + b"0\r\n\r\n")
            return
        self._transport.write(frame)
        asyncio.get_running_loop().call_later(pause, self._send_paced, frames, number + 1, fresh, pause)


async def main() -> None:
    """Serve on a free loopback port until killed."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
