"""Read a request's headers and body within limits of size, time, rate and the byte budget."""

import time
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, TypeAlias, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.api.decompression import ENCODINGS, Decompression
from app.errors import InvalidRequestError
from app.runtime.byte_budget import UNCOUNTED_BYTES, ByteBudget, Reservation
from app.runtime.compute_thread import ComputeThread
from app.runtime.deadline import Deadline
from app.settings.server import ServerSettings
from app.wire.json_body import LARGE_BYTES, is_large

T = TypeVar("T")

_JSON = "application/json"
# A body is held as it came, decoded, and rendered for upstream.
_COPIES = 3
# A large body is decompressed by so many bytes at a time.
_UNPACKED_BYTES = 1024 * 1024
_PLAIN = "identity"

TakeWhole: TypeAlias = Callable[[int], bytes | None]
"""Returns the body that came with its head, if it has at most so many bytes: then no timeout is needed."""


def _take_nothing(_most: int) -> None:
    """Return None, so that the body is received."""


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the headers by lower-case name; of a repeated one the first. Our own server has parsed them already."""
    at_hand: Mapping[str, str] | None = scope.get("extensions", {}).get("antiphon", {}).get("headers")
    return at_hand or {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def connection_of(scope: Scope) -> Any:
    """Return what our own server tells beside ASGI of this request's client: its `Connection`, with more of its own."""
    return scope["extensions"]["antiphon"]["connection"]


class BodyReader:
    """Read bodies within these limits. `budget` holds those of administrators, whose calls belong to no project."""

    def __init__(self, limits: ServerSettings, budget: ByteBudget, compute_thread: ComputeThread) -> None:
        self._limits = limits
        # Needed for each call, and a field of a pydantic model is slow to read.
        self._max_body_bytes = limits.max_body_bytes
        self._small_bytes = min(limits.max_body_bytes, UNCOUNTED_BYTES)
        self._max_depth = limits.max_json_depth
        self._budget = budget
        self._compute_thread = compute_thread
        # For one piece: the time of a whole body grows with its size.
        self._deadline = Deadline(limits.body_timeout_seconds)

    async def read(
        self,
        parse: Callable[[bytes, int], T],
        headers: Mapping[str, str],
        receive: Receive,
        held: Reservation,
        take_whole: TakeWhole = _take_nothing,
    ) -> T:
        """Read the body of a request and parse it by `parse(body, max_depth)`.

        `held` reserves a large body before it is read, and a compressed one as it is decompressed. Raises
        InvalidRequestError, OverloadedError, or ClientDisconnect.
        """
        encoding = headers.get("content-encoding", _PLAIN)
        _check_media_type(headers, encoding)
        body = take_whole(self._small_bytes)
        if body is None:
            body = await self._body(headers, receive, held)
        if encoding != _PLAIN:
            body = await self._unpacked(body, encoding.lower(), held)
        if not is_large(body):
            return parse(body, self._max_depth)
        return await self._compute_thread.run(len(body), parse, body, self._max_depth)

    async def read_form(self, parse: Callable[[bytes, int], T], headers: Mapping[str, str], receive: Receive) -> T:
        """Read and parse the body of an administrator's request; its reservation ends once it is parsed."""
        with self._budget.reservation("") as held:
            return await self.read(parse, headers, receive, held)

    async def _body(self, headers: Mapping[str, str], receive: Receive, held: Reservation) -> bytes:
        most = self._max_body_bytes
        announced = _announced(headers)
        if announced > most:
            raise _too_large(most)
        reserved = max(announced, UNCOUNTED_BYTES)
        if announced > UNCOUNTED_BYTES:
            # All of it at once: calls that reserve bit by bit could deadlock.
            await held.add(announced * _COPIES)
        # Not a list of pieces: of a client that sends byte by byte each piece would take forty bytes. And BytesIO gives
        # its content without a copy.
        body: BytesIO | None = None
        received, started = 0, time.monotonic()
        while True:
            try:
                with self._deadline.block():
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece: bytes = message["body"]
            if not (received or message["more_body"] or len(piece) > most):
                return piece
            received += len(piece)
            if received > most:
                raise _too_large(most)
            if received > reserved:
                # The body's length was not declared.
                more = min(reserved, most - reserved) + len(piece)
                await held.add(more * _COPIES)
                reserved += more
            body = body or BytesIO()
            body.write(piece)
            if not message["more_body"]:
                return body.getvalue()
            self._check_rate(received, time.monotonic() - started)

    async def _unpacked(self, packed: bytes, encoding: str, held: Reservation) -> bytes:
        """Decompress the body. The decompressed size counts against the limits."""
        if encoding == _PLAIN:
            return packed
        most, body = self._max_body_bytes, BytesIO()
        unpacking = Decompression(encoding, packed)
        del packed
        piece = unpacking.step(LARGE_BYTES)
        while True:
            body.write(piece)
            if body.tell() > most:
                raise _too_large(most)
            if unpacking.is_over:
                break
            await held.add(_UNPACKED_BYTES * _COPIES)
            piece = await self._compute_thread.run(_UNPACKED_BYTES, unpacking.step, _UNPACKED_BYTES)
        del unpacking
        # The compressed bytes are not held any more.
        held.shrink(body.tell() * _COPIES)
        return body.getvalue()

    def _check_rate(self, received: int, seconds: float) -> None:
        """Refuse a body that comes more slowly than the least rate, however steadily."""
        if seconds > self._limits.body_timeout_seconds and received < seconds * self._limits.min_body_rate:
            raise self._too_slow()

    def _too_slow(self) -> InvalidRequestError:
        limits = self._limits
        return InvalidRequestError(
            f"The request body did not arrive: nothing of it came for {limits.body_timeout_seconds:g} seconds, or less "
            f"than {limits.min_body_rate} bytes a second on average.",
            code="request_timeout",
            status=408,
        )


def _announced(headers: Mapping[str, str]) -> int:
    """Return the declared length of the body; 0 where none is declared."""
    length = headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0


def _check_media_type(headers: Mapping[str, str], encoding: str) -> None:
    given = headers.get("content-type", "")
    if given != _JSON and given.partition(";")[0].strip().lower() != _JSON and (given or _has_body(headers)):
        raise InvalidRequestError(
            f"Unsupported content type: '{given[:100]}'. This API method only accepts 'application/json' requests, "
            f"but you specified the header 'Content-Type: {given[:100]}'. "
            "Please try again with a supported content type.",
            code="unsupported_content_type",
            status=415,
        )
    if encoding != _PLAIN and encoding.lower() not in {_PLAIN, *ENCODINGS}:
        raise InvalidRequestError(
            "Unsupported content encoding. Please send the request body uncompressed, or as gzip or zstd.",
            code="unsupported_content_encoding",
            status=415,
            # RFC 9110 §15.5.16: name the accepted encodings.
            headers={"accept-encoding": "gzip, zstd"},
        )


def _has_body(headers: Mapping[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _too_large(most: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"The request body is too large: this gateway accepts at most {most} bytes.",
        code="request_too_large",
        status=413,
    )
