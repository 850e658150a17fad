"""The outermost layer of every request, a WebSocket's too: its id, path, log line, its answer when all else fails."""

import time
from collections.abc import Mapping, MutableMapping
from itertools import chain
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app import allowance
from app.api.errors import refusal, send_error
from app.errors import ApiError, InvalidRequestError
from app.ids import new_request_id
from app.observability.logging import begin_request
from app.relay.readiness import Readiness

_SOCKET = "WEBSOCKET"
_SWITCHING = 101
_CLIENT_LEFT = 499
_FIRST_SERVER_ERROR = 500
_MAX_HEADERS = 128
_MAX_HEADER_BYTES = 65_536
_QUIET = frozenset({"/livez", "/readyz", "/health", "/healthz"})
_API_ROOTS = ("/responses", "/models", "/conversations")
_ADMIN_ROOT = "/admin"
_HEADS = frozenset({"http.response.start", "websocket.accept"})
_LAST = (b"connection", b"close")


class Edge:
    """Pure ASGI, because anything that wraps the streams hides the client's disconnect."""

    def __init__(self, app: ASGIApp, direct: Mapping[tuple[str, str], ASGIApp], readiness: Readiness) -> None:
        self._app = app
        self._direct = direct
        self._readiness = readiness
        # Bound once: the lazy logger would be put together anew for every line.
        self._log = structlog.get_logger("antiphon.access").bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, with an `x-request-id` on whatever the answer is."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        started = time.monotonic()
        status = 0

        async def send_named(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] in _HEADS:
                status = message.get("status", _SWITCHING)
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                if self._readiness.is_leaving and status != _SWITCHING:
                    message["headers"].append(_LAST)
            await send(message)

        path = scope["path"] = canonical_path(scope["raw_path"])
        if scope["type"] == "websocket":
            scope["method"], send = _SOCKET, refusing(send)
        begin_request(request_id)
        allowance.begin_call()
        direct = self._direct.get((scope["method"], path))
        app = direct or (self._app if scope["type"] == "http" else no_socket)
        try:
            check_headers(scope["headers"])
            self._check_ready(path)
            await app(scope, receive, send_named)
            # An app that answers nothing had nobody to answer.
            status = status or _CLIENT_LEFT
        except ClientDisconnect:
            # It left while it was sending: no one reads an answer.
            status = _CLIENT_LEFT
        except Exception as error:
            if status:
                self._log.exception("unhandled error", path=_route(scope))
                raise
            await send_error(self._as_answer(error, scope, request_id), send_named)
        finally:
            if path not in _QUIET:
                route = path if direct else _route(scope)
                elapsed = round((time.monotonic() - started) * 1000, 1)
                self._log.info("request", method=scope["method"], route=route, status=status, ms=elapsed)

    def _check_ready(self, path: str) -> None:
        if self._readiness.obstacle is not None and path not in _QUIET:
            raise self._readiness.refusal()

    def _as_answer(self, error: Exception, scope: Scope, request_id: str) -> ApiError:
        if isinstance(error, ApiError):
            if error.status >= _FIRST_SERVER_ERROR:
                cause = type(error.__cause__).__name__ if error.__cause__ else None
                self._log.warning(
                    "call failed", status=error.status, code=error.code, reason=error.message, cause=cause
                )
            return error
        if isinstance(error, HTTPException):
            return refusal(error, scope)
        # Whatever broke: the operator gets the trace, the client an answer that says nothing of the inside.
        self._log.exception("unhandled error", path=_route(scope))
        return ApiError(
            "The server had an error while processing your request. Please retry it, and give the operator "
            f"of this gateway the request id {request_id} if it happens again."
        )


def canonical_path(raw_path: bytes) -> str:
    """The path that routes are matched with: the one that was sent, with what base URLs are known to get wrong.

    Those are a slash at the end, a second slash behind `/v1`, and no `/v1` at all. Nothing is decoded (a route decodes
    what stands for an id in it, `routes.LiteralRoute`), no dots are resolved, and `/admin` has one spelling alone: a
    proxy's rule about a path holds for all that is served there.
    """
    path = raw_path.decode("latin-1")
    if path.startswith(_ADMIN_ROOT):
        return path
    if path.endswith("/") and len(path) > 1:
        path = path[:-1]
    if path.startswith("/v1//"):
        path = f"/v1{path[4:]}"
    if path.startswith(_API_ROOTS):
        path = f"/v1{path}"
    return path


async def no_socket(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """What there is at every path that takes no WebSocket."""
    raise HTTPException(404)


def refusing(send: Send) -> Send:
    """A WebSocket's `send` that takes an answer over HTTP, too: the refusal of the upgrade."""

    async def send_any(message: MutableMapping[str, Any]) -> None:
        if message["type"].startswith("http."):
            message["type"] = f"websocket.{message['type']}"
        await send(message)

    return send_any


def check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a header block that is out of proportion; the server's parser has no limit of its own."""
    if len(headers) > _MAX_HEADERS or sum(map(len, chain.from_iterable(headers))) > _MAX_HEADER_BYTES:
        raise InvalidRequestError("The request's headers are too large.", code="headers_too_large", status=431)


def _route(scope: Scope) -> str:
    # The route's template, not the path: ids stay out of the log, and lines of one route look alike.
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))
