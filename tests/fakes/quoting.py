"""An upstream that says the key that it is called with, in each way that one can."""

from collections.abc import Callable
from secrets import token_urlsafe
from typing import Any

import httpx

from tests.fakes.replies import Act, Reply
from tests.fakes.streams import frame, response, story
from tests.fakes.upstream import Recorded


def quoting(make: Callable[[str], Reply]) -> Callable[[Recorded], Reply]:
    """An upstream that says the key that it is called with, in this answer."""
    return lambda request: make(request.headers.get("authorization", "").removeprefix("Bearer "))


def incorrect(key: str) -> str:
    return f"Incorrect API key provided: {key}. You can find your API key at https://platform.example."


def in_message(status: int) -> Callable[[str], Reply]:
    """An error in OpenAI's shape that has the key in its message."""
    return lambda key: Reply.error(status, "invalid_api_key", message=incorrect(key))


def in_headers(status: int) -> Callable[[str], Reply]:
    """An answer that has the key in headers, also in those that may pass."""
    names = ("x-api-key", "set-cookie", "www-authenticate", "openai-organization", "x-goog-api-key", "authorization")
    allowed = ("x-request-id", "openai-version", "x-ratelimit-limit-requests")

    def make(key: str) -> Reply:
        headers = dict.fromkeys((*names, *allowed), f"key={key}")
        if status == httpx.codes.OK:
            return Reply.json(status, response(f"resp_{token_urlsafe(8)}", "completed"), headers)
        return Reply.error(status, message="No.", headers=headers)

    return make


def failing(key: str) -> dict[str, Any]:
    return {**response(f"resp_{token_urlsafe(8)}", "failed"), "error": {"code": "x", "message": incorrect(key)}}


# The client's, as it seems: no account is thought less of.
FAULTS: tuple[Callable[[str], Reply], ...] = (
    *(in_message(status) for status in (400, 404, 422)),
    lambda key: Reply.json(400, {"detail": incorrect(key)}),
    lambda key: Reply.html(400, f"<html>Authorization: Bearer {key}</html>"),
    lambda key: Reply.html(200, f"<html>Authorization: Bearer {key}</html>"),
    lambda key: Reply.error(200, message=incorrect(key)),
    in_headers(200),
    in_headers(400),
)
STREAM_FAULTS: tuple[Callable[[str], Reply], ...] = (
    lambda key: Reply.sse([*story("resp_x")[:2], frame("error", 2, code="x", message=incorrect(key), param=None)]),
    lambda key: Reply.sse([*story("resp_x")[:2], frame("response.failed", 2, response=failing(key))]),
    lambda key: Reply.sse([b'data: {"error": {"message": "%b"}}\n\n' % incorrect(key).encode()]),
    lambda key: Reply.sse([*story("resp_x")[:3], f"data: {incorrect(key)}".encode()], then=Act.CLOSE),
    lambda key: Reply.json(200, failing(key)),
)
# The upstream's.
SERVER_FAULTS: tuple[Callable[[str], Reply], ...] = (
    *(in_message(status) for status in (500, 503)),
    lambda key: Reply.html(502, f"<html>Authorization: Bearer {key}</html>"),
    lambda key: Reply.truncated(f'{{"error": {{"message": "{incorrect(key)}"}}}}'.encode()),
    lambda key: Reply.raw(f"Authorization: Bearer {key}\r\n\r\n".encode()),
    lambda key: Reply.raw(f"HTTP/1.1 200 OK\r\nBearer {key}\r\n\r\n".encode()),
    lambda key: Reply.redirect(f"http://127.0.0.1:1/?api_key={key}"),
    lambda key: Reply.error(429, "rate_limit_exceeded", {"retry-after-ms": "1"}, incorrect(key)),
)
# The key's: it is used no more.
KEY_FAULTS = tuple(in_message(status) for status in (403, 402, 401))
