"""Errors as answers, always in OpenAI's shape."""

import structlog
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.errors import ApiError, InvalidRequestError

_METHOD_NOT_ALLOWED = 405
_LONGEST_SHOWN = 512
_FIRST_SERVER_ERROR = 500

_log = structlog.get_logger("antiphon.errors")


def add_error_handlers(app: FastAPI) -> None:
    """Answer our own errors and the framework's (unknown URL, wrong method) alike."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)


async def _answer_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - the registration above is the proof, for the type checker
    if error.status >= _FIRST_SERVER_ERROR:
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        _log.warning("call failed", status=error.status, code=error.code, reason=error.message, cause=cause)
    return Response(error.body(), error.status, dict(error.headers), media_type="application/json")


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - idem
    path = request.scope["path"][:_LONGEST_SHOWN]
    if error.status_code == _METHOD_NOT_ALLOWED:
        message, code = f"Not allowed to {request.method} on {path}.", "method_not_allowed"
    else:
        message, code = f"Invalid URL ({request.method} {path})", None
    answer = InvalidRequestError(message, code=code, status=error.status_code)
    answer.headers = error.headers or {}
    return await _answer_api_error(request, answer)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    # The client left while it was sending: no one reads this.
    return Response(status_code=499)
