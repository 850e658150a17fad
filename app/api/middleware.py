"""Give every request, a WebSocket's too, its id, canonical path and log line, and turn every error into an answer."""

import time
from collections.abc import Mapping, MutableMapping
from itertools import chain
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.canonical_path import canonical_path
from app.api.error_answer import router_error, send_error
from app.errors import CLIENT_LEFT, ApiError, InvalidRequestError
from app.ids import new_request_id
from app.observability.logging import begin_request
from app.relay.process.readiness import Readiness
from app.runtime import storage_time

_SOCKET = "WEBSOCKET"
_SWITCHING = 101
_FIRST_SERVER_ERROR = 500
_MAX_HEADERS = 128
_MAX_HEADER_BYTES = 65_536
_QUIET = frozenset({"/livez", "/readyz", "/health", "/healthz"})
_HEADS = frozenset({"http.response.start", "websocket.accept"})
_LAST = (b"connection", b"close")


class RequestMiddleware:
    """Wrap every request; pure ASGI, because whatever wraps the streams hides the client's disconnect."""

    def __init__(self, app: ASGIApp, direct: Mapping[tuple[str, str], ASGIApp], readiness: Readiness) -> None:
        self._app = app
        self._direct = direct
        self._readiness = readiness
        # Bound once: the lazy logger would be assembled anew for every line.
        self._log = structlog.get_logger("antiphon.access").bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every answer has an `x-request-id`."""
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
        storage_time.begin_call()
        direct = self._direct.get((scope["method"], path))
        app = direct or (self._app if scope["type"] == "http" else no_websocket)
        try:
            check_headers(scope["headers"])
            self._check_ready(path)
            await app(scope, receive, send_named)
            # An app that sends no answer had no client left.
            status = status or CLIENT_LEFT
        except ClientDisconnect:
            # The client left while it was sending: nobody reads an answer.
            status = CLIENT_LEFT
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
            raise self._readiness.unready_error()

    def _as_answer(self, error: Exception, scope: Scope, request_id: str) -> ApiError:
        if isinstance(error, ApiError):
            if error.status >= _FIRST_SERVER_ERROR:
                cause = type(error.__cause__).__name__ if error.__cause__ else None
                self._log.warning(
                    "call failed", status=error.status, code=error.code, reason=error.message, cause=cause
                )
            return error
        if isinstance(error, HTTPException):
            return router_error(error, scope)
        # The operator gets the trace, the client an answer without internal detail.
        self._log.exception("unhandled error", path=_route(scope))
        return ApiError(
            "The server had an error while processing your request. Please retry it, and give the operator "
            f"of this gateway the request id {request_id} if it happens again."
        )


async def no_websocket(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Answer 404 at a path that takes no WebSocket."""
    raise HTTPException(404)


def refusing(send: Send) -> Send:
    """Wrap a WebSocket's `send` so that it takes an HTTP answer, too: the refusal of the upgrade."""

    async def send_any(message: MutableMapping[str, Any]) -> None:
        if message["type"].startswith("http."):
            message["type"] = f"websocket.{message['type']}"
        await send(message)

    return send_any


def check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a header block with too many headers or bytes; raises InvalidRequestError (431)."""
    if len(headers) > _MAX_HEADERS or sum(map(len, chain.from_iterable(headers))) > _MAX_HEADER_BYTES:
        raise InvalidRequestError("The request's headers are too large.", code="headers_too_large", status=431)


def _route(scope: Scope) -> str:
    # The route's template, not the path: ids stay out of the log, and lines of one route are alike.
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))
