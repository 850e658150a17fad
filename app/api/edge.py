"""The outermost layer of every HTTP request: its id, its path, its log line, and its answer when all else fails."""

import re
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ApiError, InvalidRequestError
from app.ids import new_request_id

_MAX_HEADERS = 128
_MAX_HEADER_BYTES = 65_536
_QUIET = frozenset({"/livez", "/readyz", "/health", "/healthz"})
_API_ROOTS = ("/responses", "/models", "/conversations")
_SLASHES = re.compile(r"/{2,}")

_log = structlog.get_logger("antiphon.access")


class Edge:
    """Pure ASGI, because anything that wraps the streams hides the client's disconnect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, with an `x-request-id` on whatever the answer is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        started = time.monotonic()
        status = 0

        async def send_named(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        scope["path"] = canonical_path(scope["path"])
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            check_headers(scope["headers"])
            await self._app(scope, receive, send_named)
        except ApiError as error:
            await _answer(error, send_named)
        except Exception:
            # Whatever broke: the operator gets the trace, the client an answer that says nothing of the inside.
            _log.exception("unhandled error", path=_route(scope))
            if status:
                raise
            await _answer(
                ApiError(
                    "The server had an error while processing your request. Please retry it, and give the operator "
                    f"of this gateway the request id {request_id} if it happens again."
                ),
                send_named,
            )
        finally:
            if scope["path"] not in _QUIET:
                elapsed = round((time.monotonic() - started) * 1000, 1)
                _log.info("request", method=scope["method"], route=_route(scope), status=status, ms=elapsed)


def canonical_path(path: str) -> str:
    """The path without doubled or trailing slashes, and with the `/v1` that people forget."""
    path = _SLASHES.sub("/", path)
    if len(path) > 1:
        path = path.rstrip("/")
    if path.startswith(_API_ROOTS):
        path = f"/v1{path}"
    return path


def check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a header block that is out of proportion; the server's parser has no limit of its own."""
    if len(headers) > _MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES:
        raise InvalidRequestError("The request's headers are too large.", code="headers_too_large", status=431)


def _route(scope: Scope) -> str:
    # The route's template, not the path: ids stay out of the log, and lines of one route look alike.
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


async def _answer(error: ApiError, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.body()})
