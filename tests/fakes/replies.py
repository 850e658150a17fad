"""Answers as scripts, for the scripted upstream to play: good ones, and each way of breaking off."""

import asyncio
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import orjson


class Act(enum.Enum):
    """What a reply may do besides sending bytes and pausing."""

    STALL = "stall"  # send nothing more until the peer closes
    CLOSE = "close"  # FIN
    RESET = "reset"  # RST


Step = bytes | float | Act | asyncio.Event


@dataclass(frozen=True)
class Reply:
    """A script: bytes are sent, floats are pauses in seconds, events are waited for, acts are done.

    A connection that is left open is kept.
    """

    steps: Sequence[Step]

    @staticmethod
    def head(status: int, headers: Mapping[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @classmethod
    def body(
        cls, status: int, body: bytes, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
    ) -> Self:
        told = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
        return cls([cls.head(status, told) + body])

    @classmethod
    def json(cls, status: int, value: object, headers: Mapping[str, str] | None = None) -> Self:
        return cls.body(status, orjson.dumps(value), headers)

    @classmethod
    def error(
        cls, status: int, code: str | None = None, headers: Mapping[str, str] | None = None, message: str = "No."
    ) -> Self:
        """An error in OpenAI's shape."""
        error = {"message": message, "type": code or "server_error", "param": None, "code": code}
        return cls.json(status, {"error": error}, headers)

    @classmethod
    def html(cls, status: int, text: str = "<html>Bad gateway</html>") -> Self:
        return cls.body(status, text.encode(), content_type="text/html")

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Self:
        return cls.body(status, b"", {"location": location}, "text/html")

    @classmethod
    def sse(
        cls,
        chunks: Sequence[bytes],
        *,
        pause: float = 0.0,
        then: Act | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """A chunked event stream, one HTTP chunk for each of `chunks`. `then` plays in place of the proper end."""
        told = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **(headers or {})}
        steps: list[Step] = [cls.head(200, told)]
        for chunk in chunks:
            steps += [pause] if pause else []
            steps.append(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return cls([*steps, then or b"0\r\n\r\n"])

    @classmethod
    def held(cls, chunks: Sequence[bytes], go: asyncio.Event, rest: Sequence[bytes]) -> Self:
        """The same, the rest of it once the test lets go."""
        return cls([*cls.sse(chunks, then=Act.STALL).steps[:-1], go, *cls.sse(rest).steps[1:]])

    @classmethod
    def close_delimited(cls, chunks: Sequence[bytes], then: Act = Act.CLOSE) -> Self:
        """An event stream that ends where the connection does."""
        return cls([cls.head(200, {"content-type": "text/event-stream", "connection": "close"}), *chunks, then])

    @classmethod
    def truncated(cls, body: bytes, missing: int = 10, status: int = 200) -> Self:
        """Closes `missing` bytes before the end that its content-length promises."""
        told = {"content-type": "application/json", "content-length": str(len(body) + missing)}
        return cls([cls.head(status, told) + body, Act.CLOSE])

    @classmethod
    def raw(cls, *pieces: bytes, close: bool = True) -> Self:
        return cls([*pieces, Act.CLOSE] if close else pieces)

    @classmethod
    def stall(cls) -> Self:
        """Takes the request and never answers."""
        return cls([Act.STALL])

    @classmethod
    def hang_up(cls) -> Self:
        """Closes without an answer, as a server does whose idle timer and the next request meet."""
        return cls([Act.CLOSE])

    @classmethod
    def reset(cls) -> Self:
        return cls([Act.RESET])

    @classmethod
    def slow_head(cls, pause: float) -> Self:
        """A good answer whose header bytes come one at a time."""
        whole = cls.head(200, {"content-type": "application/json", "content-length": "2"})
        return cls([step for byte in whole for step in (bytes([byte]), pause)] + [b"{}"])

    @classmethod
    def huge_header(cls, size: int) -> Self:
        return cls.json(200, {}, {"x-huge": "x" * size})
