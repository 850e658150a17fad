"""What a failed try means: for the account, and for the client if it was the last one. Must not choose an account."""

from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from app.errors import ApiError, InvalidRequestError, UpstreamError, UpstreamRefusedError
from app.upstream.headers import answer_headers, as_text
from app.upstream.http1 import UnansweredError
from app.upstream.pool import PoolExhaustedError, retry_headers
from app.upstream.retry_after import retry_after

# Everything that a call over a transport can raise. TimeoutError: of a deadline of ours.
TRANSPORT_ERRORS = (httpx.TransportError, TimeoutError)
_TIMEOUTS = (TimeoutError, httpx.TimeoutException)
_UNREACHABLE = (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol)

_CLIENT_FAULTS = frozenset({400, 404, 405, 409, 410, 413, 415, 422, 451})
_KEY_FAULTS = frozenset({401, 402, 403})
_FORBIDDEN = 403
_TOO_MANY_REQUESTS = 429
_FIRST_ERROR_STATUS = 400
_LONG_REST_SECONDS = 300.0
_QUOTA_SPENT = frozenset({"insufficient_quota", "credit_balance_exhausted"})


class UpstreamBrokenError(UpstreamError):
    """Upstream's answer broke off after its first byte: no other account can take over."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one try failed. The account rests for `rest` seconds; 0 means that it is only in doubt.

    `unanswered`: the connection was closed before any byte of an answer, as a stale keep-alive connection is.
    """

    error: UpstreamError
    rest: float = 0.0
    unanswered: bool = False


def broken(exception: BaseException) -> Fault:
    """The fault of a try that ended in one of TRANSPORT_ERRORS. The exception's text stays here: it names hosts."""
    if isinstance(exception, _TIMEOUTS):
        return Fault(UpstreamError("Upstream did not answer in time.", code="upstream_timeout", status=504))
    if isinstance(exception, _UNREACHABLE):
        return Fault(UpstreamError("Upstream could not be reached.", code="upstream_unreachable"))
    if isinstance(exception, httpx.ProtocolError):
        return Fault(UpstreamError("Upstream did not answer in valid HTTP.", code="upstream_invalid_answer"))
    return disconnected(unanswered=isinstance(exception, UnansweredError))


def disconnected(*, unanswered: bool) -> Fault:
    """The fault of a connection that was closed before the first byte of a body."""
    error = UpstreamError("Upstream closed the connection before it answered.", code="upstream_disconnected")
    return Fault(error, unanswered=unanswered)


def encoded() -> UpstreamError:
    """The error of an answer in an encoding that was not asked for: neither we nor the client could read it."""
    return UpstreamError(
        "Upstream compressed its answer, though it was asked not to.",
        code="upstream_invalid_answer",
        headers={"x-should-retry": "false"},
    )


def broken_off(exception: BaseException) -> UpstreamBrokenError:
    """The error of an answer that ended in one of TRANSPORT_ERRORS after its first byte."""
    if isinstance(exception, _TIMEOUTS):
        return UpstreamBrokenError("Upstream stopped sending.", code="upstream_idle_timeout", status=504)
    if isinstance(exception, httpx.ProtocolError):
        return UpstreamBrokenError("Upstream's answer stopped being valid HTTP.", code="upstream_invalid_answer")
    return UpstreamBrokenError("Upstream closed the connection early.", code="upstream_disconnected")


def refused(status: int, headers: httpx.Headers, body: bytes, *, cool_down_seconds: float, now: float) -> Fault:
    """The fault of an answer that is no success. `now` is unix time.

    Raises UpstreamRefusedError when the fault is the client's: no other account would answer differently.
    """
    error = _read_error(body)
    shown = as_text(answer_headers(headers.raw))
    shown.pop("content-type", None)
    # A key that may not use one model is no worse for the others, so the model is what does not exist.
    if status in _CLIENT_FAULTS or (status in _KEY_FAULTS and error.get("code") == "model_not_found"):
        raise UpstreamRefusedError(status, _relayable(status, body, error), shown)
    # A 403 that is not the API's own comes from something before it, a filter say, and tells nothing of the key.
    if status in _KEY_FAULTS and (error or status != _FORBIDDEN):
        unusable = UpstreamError(
            f"Upstream did not accept this gateway's credentials (HTTP {status}).", code="upstream_authentication_error"
        )
        return Fault(unusable, rest=_LONG_REST_SECONDS)
    asked = retry_after(headers, now)
    if status == _TOO_MANY_REQUESTS:
        relayed = UpstreamRefusedError(status, _relayable(status, body, error), shown)
        if not _QUOTA_SPENT.isdisjoint((error.get("code"), error.get("type"))):
            return Fault(relayed, rest=_LONG_REST_SECONDS)
        return Fault(relayed, rest=cool_down_seconds if asked is None else asked)
    if status >= _FIRST_ERROR_STATUS and error:
        return Fault(UpstreamRefusedError(status, body, shown), rest=asked or 0.0)
    return Fault(UpstreamError(f"Upstream answered with HTTP {status} and no usable error."), rest=asked or 0.0)


def last_word(fault: Fault, shortest_rest: float) -> UpstreamError:
    """What the client is told when every account has been tried. `shortest_rest`: seconds until one is back.

    The SDKs are told not to try again, except soon after a rate limit: the gateway has just done it for them.
    """
    if fault.error.status == _TOO_MANY_REQUESTS:
        advice = retry_headers(shortest_rest or fault.rest)
    else:
        advice = {"x-should-retry": "false"}
    fault.error.headers = {**fault.error.headers, **advice}
    return fault.error


def _read_error(body: bytes) -> dict[str, Any]:
    """The `error` object of an answer in OpenAI's shape; empty when it has another."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else {}


def _relayable(status: int, body: bytes, error: dict[str, Any]) -> bytes:
    """The body as it came, or an error of ours in OpenAI's shape around upstream's own words, if it has any."""
    if error:
        return body
    message = _plain_message(body) or f"Upstream answered with HTTP {status} and no usable error."
    wrapped: ApiError = InvalidRequestError(message)
    if status == _TOO_MANY_REQUESTS:
        wrapped = PoolExhaustedError(message)
    return wrapped.body()


def _plain_message(body: bytes) -> str | None:
    """The message of servers that answer in JSON of another shape: FastAPI's `detail`, `message`, a bare `error`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict):
        return None
    return next((text for name in ("detail", "message", "error") if isinstance(text := answer.get(name), str)), None)
