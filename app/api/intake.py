"""A request's headers, body and query, taken in within their limits."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.deadline import Deadline
from app.errors import InvalidRequestError
from app.settings import ServerSettings
from app.state.listing import DEFAULT_LIMIT, PageQuery
from app.wire.body import LARGE_BYTES
from app.wire.fields import enum, integer
from app.wire.requests import INCLUDE, CreateRequest, parse_create_request

T = TypeVar("T")

_ORDER = enum("asc", "desc")
_LIMIT = integer(minimum=1, maximum=100)
_CURSOR = integer(minimum=0)
# Longer than any limit in question, and short enough to be read as a number at no cost.
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_JSON = "application/json"


def headers_of(scope: Scope) -> Mapping[str, str]:
    """The request's headers by lower-case name; of a repeated one the first. Our own server has them at hand."""
    at_hand: Mapping[str, str] | None = scope.get("extensions", {}).get("antiphon", {}).get("headers")
    return at_hand or {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def read_create_request(
    headers: Mapping[str, str], receive: Receive, limits: ServerSettings
) -> Awaitable[CreateRequest]:
    """The valid create request in this HTTP request. Raises InvalidRequestError, or ClientDisconnect."""
    return read_request(parse_create_request, headers, receive, limits)


async def read_request(
    parse: Callable[[bytes, int], T], headers: Mapping[str, str], receive: Receive, limits: ServerSettings
) -> T:
    """The same of another endpoint: `parse` checks its body, given the deepest nesting."""
    _check_media_type(headers)
    body = await _read_body(headers, receive, limits)
    if len(body) < LARGE_BYTES:
        return parse(body, limits.max_json_depth)
    return await asyncio.to_thread(parse, body, limits.max_json_depth)


def read_page_query(request: Request) -> PageQuery:
    """`limit` 1 to 100, `order`, `after` and `before` of a list call."""
    query = request.query_params
    order = query.get("order", "desc")
    _ORDER(order, "order")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    size: int | str = int(limit) if _INTEGER.fullmatch(limit) else limit
    _LIMIT(size, "limit")
    return PageQuery(
        limit=int(size),
        ascending=order == "asc",
        after=query.get("after") or None,
        before=query.get("before") or None,
    )


def check_include(request: Request) -> None:
    """`include` of a retrieval, in both of its spellings. A stored response is returned with all that it has."""
    query = request.query_params
    for place, name in enumerate([*query.getlist("include"), *query.getlist("include[]")]):
        INCLUDE(name, f"include[{place}]")


def read_stream_query(request: Request) -> int | None:
    """The event after which a retrieval streams, -1 for all of them; None when it does not stream.

    `include_obfuscation` is taken, and changes nothing: a log is given as it was written.
    """
    query = request.query_params
    if query.get("stream", "false").lower() in {"false", "0", ""}:
        return None
    given = query.get("starting_after")
    if given is None:
        return -1
    after: int | str = int(given) if _INTEGER.fullmatch(given) else given
    _CURSOR(after, "starting_after")
    return int(after)


def _check_media_type(headers: Mapping[str, str]) -> None:
    given = headers.get("content-type", "")
    if given != _JSON and given.partition(";")[0].strip().lower() != _JSON:
        raise InvalidRequestError(
            f"Unsupported content type: '{given[:100]}'. This API method only accepts 'application/json' requests, "
            f"but you specified the header 'Content-Type: {given[:100]}'. "
            "Please try again with a supported content type.",
            code="unsupported_content_type",
            status=415,
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequestError(
            "Unsupported content encoding. Please send the request body uncompressed.",
            code="unsupported_content_encoding",
            status=415,
        )


async def _read_body(headers: Mapping[str, str], receive: Receive, limits: ServerSettings) -> bytes:
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limits.max_body_bytes:
        raise _too_large(limits)
    # Not a list of what came: a client that sends byte by byte would have each of them weigh forty.
    body = bytearray()
    try:
        with Deadline(limits.body_timeout_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece: bytes = message["body"]
                if len(body) + len(piece) > limits.max_body_bytes:
                    raise _too_large(limits)
                if not message["more_body"]:
                    return bytes(body + piece) if body else piece
                body += piece
    except TimeoutError:
        raise InvalidRequestError(
            f"The request body did not arrive within {limits.body_timeout_seconds:g} seconds.",
            code="request_timeout",
            status=408,
        ) from None


def _too_large(limits: ServerSettings) -> InvalidRequestError:
    return InvalidRequestError(
        f"The request body is too large: this gateway accepts at most {limits.max_body_bytes} bytes.",
        code="request_too_large",
        status=413,
    )
