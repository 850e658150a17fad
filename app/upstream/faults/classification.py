"""Classify a failed attempt: who is at fault, and which error the client gets if no other account answers."""

import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal, TypeAlias

import httpx
import orjson

from app.errors import ApiError, UpstreamError, UpstreamRefusedError
from app.upstream.faults.pool_exhausted import PoolExhaustedError, retry_headers
from app.upstream.faults.retry_after import retry_after
from app.upstream.headers import answer_headers, as_text
from app.upstream.http.egress_policy import EgressDeniedError
from app.upstream.http.local_faults import local_fault
from app.upstream.http.proxy_tunnel import ProxyRefusedError
from app.upstream.transport import UnansweredError, UnfitRequestError
from app.wire.oversized_request import is_oversized
from app.wire.upstream_errors import QUOTA_SPENT, ParsedError, parse_json_error, parse_plain_error

# All that a call over a transport raises. TimeoutError comes from our deadlines, InvalidURL from a base_url whose host
# is almost an address, such as 010.1.1.1.
TRANSPORT_ERRORS = (httpx.TransportError, httpx.InvalidURL, TimeoutError, UnfitRequestError)
_TIMEOUTS = (TimeoutError, httpx.TimeoutException)
_UNREACHABLE = (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.InvalidURL)

_CLIENT_FAULTS = frozenset({400, 404, 405, 409, 410, 413, 415, 422, 451})
_KEY_FAULTS = frozenset({401, 402, 403})
_FORBIDDEN = 403
_PROXY_AUTHENTICATION = 407
_TOO_MANY_REQUESTS = 429
_FIRST_ERROR_STATUS = 400
_BAD_GATEWAY = 502
_ERROR = b'"error"'
# With these the API's own plain text is for the client. A proxy before the API names hosts, and mostly answers 5xx.
_SPOKEN_PLAINLY = _CLIENT_FAULTS | {_TOO_MANY_REQUESTS}
_LOCAL_REST_SECONDS = 1.0
_RETRY_AFTER = "retry-after"
_NO_RETRY = {"x-should-retry": "false"}
_MODEL_LACKING = frozenset({400, 403, 404})
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")


class UpstreamBrokenError(UpstreamError):
    """Report that upstream's answer broke off after its first byte: no other account can take over."""


Blame: TypeAlias = Literal[
    "key", "quota", "rate", "size", "server", "unreachable", "model", "content", "unfit", "resolver", "machine"
]
"""What is at fault. key, quota, rate: the account's. size: the request exceeds the account's whole limit. server: the
work may be done all the same. unreachable: no work was done. model: the account lacks it. content: another account
encrypted it. unfit: the request cannot be put in the upstream's terms, and was not sent. resolver, machine: this
machine's name resolution, or the machine, which says nothing of any account."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Name why an attempt failed. `rest` is the wait that upstream asks for, in seconds; `reason` is safe to show.

    `is_stale`: a kept connection was closed before any byte of an answer. `is_reported`: upstream itself reported that
    the call ended without an answer.
    """

    error: UpstreamError
    blame: Blame
    reason: str
    rest: float | None = None
    is_stale: bool = False
    is_reported: bool = False

    @property
    def is_local(self) -> bool:
        """Tell whether this machine is at fault."""
        return self.blame in {"resolver", "machine"}

    @property
    def is_timeout(self) -> bool:
        """Tell whether upstream may still be at work on the call."""
        return self.error.code == "upstream_timeout"


def _unserved(error: UpstreamError, blame: Blame = "server", *, is_stale: bool = False) -> Fault:
    return Fault(error, blame, str(error.code), is_stale=is_stale)


def fault_of_exception(exception: BaseException) -> Fault:
    """Classify one of TRANSPORT_ERRORS. The exception's text is not passed on: it names hosts."""
    if isinstance(exception, UnfitRequestError):
        return Fault(exception, "unfit", "unsupported_parameter")
    local = local_fault(exception)
    if local is not None:
        local_error = UpstreamError(local.message, code=local.code, status=503)
        return _unserved(local_error, "resolver" if local.is_of_names else "machine")
    if isinstance(exception, _TIMEOUTS):
        timed_out = UpstreamError("Upstream did not answer in time.", code="upstream_timeout", status=504)
        return _unserved(timed_out, "unreachable" if isinstance(exception, httpx.ConnectTimeout) else "server")
    if isinstance(exception, ProxyRefusedError):
        return _refused_by_proxy(exception.status)
    if isinstance(exception, EgressDeniedError):
        refused_address = UpstreamError(
            "Upstream could not be reached: its address is one that this gateway does not call.",
            code="upstream_address_refused",
        )
        return _unserved(refused_address, "unreachable")
    if isinstance(exception, _UNREACHABLE):
        return _unserved(UpstreamError("Upstream could not be reached.", code="upstream_unreachable"), "unreachable")
    if isinstance(exception, httpx.ProtocolError):
        return _unserved(UpstreamError("Upstream did not answer in valid HTTP.", code="upstream_invalid_answer"))
    return fault_of_disconnect(is_stale=isinstance(exception, UnansweredError))


def _refused_by_proxy(status: int) -> Fault:
    error = UpstreamError(
        f"The proxy on the way to upstream refused the call (HTTP {status}).", code="upstream_proxy_refused"
    )
    return Fault(error, "unreachable", f"HTTP {status} of the proxy")


def fault_of_disconnect(*, is_stale: bool = False) -> Fault:
    """Return the fault of a connection that was closed before the first byte of a body."""
    error = UpstreamError("Upstream closed the connection before it answered.", code="upstream_disconnected")
    return _unserved(error, is_stale=is_stale)


def error_of_encoding() -> UpstreamError:
    """Return the error of a body in an encoding that was not asked for, and that the client could not read."""
    return UpstreamError(
        "Upstream compressed its answer, though it was asked not to.",
        code="upstream_invalid_answer",
        headers=_NO_RETRY,
    )


def not_a_response() -> UpstreamError:
    """Return the error of an answer that cannot be read as a response object."""
    return UpstreamError("Upstream's answer is not a response object.", code="upstream_invalid_answer")


def error_of_broken_body(exception: BaseException) -> UpstreamBrokenError:
    """Return the error of an answer that ended in one of TRANSPORT_ERRORS after its first byte."""
    if isinstance(exception, _TIMEOUTS):
        return UpstreamBrokenError("Upstream stopped sending.", code="upstream_idle_timeout", status=504)
    if isinstance(exception, httpx.ProtocolError):
        return UpstreamBrokenError("Upstream's answer stopped being valid HTTP.", code="upstream_invalid_answer")
    return UpstreamBrokenError("Upstream closed the connection early.", code="upstream_disconnected")


def fault_of_status(status: int, headers: httpx.Headers, body: bytes, *, now: float) -> Fault:
    """Classify an answer that is no success. `now` is unix time.

    Raises UpstreamRefusedError when the fault is the client's: no other account would answer differently.
    """
    parsed = parse_json_error(body)
    if parsed is None and status in _SPOKEN_PLAINLY:
        parsed = parse_plain_error(body)
    allowed, _ = answer_headers(headers.raw)
    client_headers = as_text(allowed)
    client_headers.pop("content-type", None)
    parsed_code = None if parsed is None else parsed.code
    code = parsed_code if parsed_code is not None and _CODE.fullmatch(parsed_code) else None
    reason = f"HTTP {status}" if code is None else f"HTTP {status} {code}"
    relayed_error = UpstreamRefusedError(status, _relayable(status, body, parsed), client_headers, code)
    if status in _MODEL_LACKING and code == "model_not_found":
        return Fault(relayed_error, "model", reason)
    if code == "invalid_encrypted_content":
        return Fault(relayed_error, "content", reason)
    if status in _CLIENT_FAULTS:
        raise relayed_error
    if status == _PROXY_AUTHENTICATION:
        # Only a proxy sends 407; for an http origin its answer comes in place of upstream's.
        return _refused_by_proxy(status)
    # A 403 that is not the API's own comes from a filter before it, and says nothing of the key.
    if status in _KEY_FAULTS and (status != _FORBIDDEN or (parsed is not None and _ERROR in body)):
        key_error = UpstreamError(
            f"Upstream did not accept this gateway's credentials (HTTP {status}).", code="upstream_authentication_error"
        )
        return Fault(key_error, "key", reason)
    retry_seconds = retry_after(headers, now)
    if status == _TOO_MANY_REQUESTS:
        return _limited(relayed_error, parsed, reason, retry_seconds)
    error: UpstreamError = relayed_error
    if parsed is None or status < _FIRST_ERROR_STATUS:
        error = UpstreamError(f"Upstream answered with HTTP {status} and no usable error.")
    # A gateway that timed out knows nothing of the server behind it.
    return Fault(error, "server", reason, rest=retry_seconds, is_reported=status != HTTPStatus.GATEWAY_TIMEOUT)


def _limited(
    relayed_error: UpstreamRefusedError, parsed: ParsedError | None, reason: str, retry_seconds: float | None
) -> Fault:
    if parsed is not None and not QUOTA_SPENT.isdisjoint((parsed.code, parsed.type)):
        return Fault(relayed_error, "quota", reason)
    if parsed is not None and is_oversized(parsed):
        relayed_error.is_final = True
        return Fault(relayed_error, "size", reason)
    return Fault(relayed_error, "rate", reason, rest=retry_seconds)


def fault_of_limit(parsed: ParsedError) -> Fault:
    """Return the fault of an account that met a limit amid its answer."""
    return with_shortest_rest(
        fault_of_status(_TOO_MANY_REQUESTS, httpx.Headers(), parsed.body(_TOO_MANY_REQUESTS), now=0.0)
    )


def with_shortest_rest(fault: Fault) -> Fault:
    """Give a rate limit that an event reported, without a time in headers, the shortest rest."""
    return replace(fault, rest=0.0) if fault.blame == "rate" and fault.rest is None else fault


def error_in_success(parsed: ParsedError) -> UpstreamRefusedError:
    """Return the error of an answer with a status of success whose body reports a failure."""
    status = parsed.status or _BAD_GATEWAY
    return UpstreamRefusedError(status, parsed.body(status), {}, parsed.code)


def error_when_all_failed(fault: Fault, pool: ApiError) -> ApiError:
    """Return the client's error when no other account is left. `pool` is the pool's error for a call that comes now.

    The error tells SDKs not to retry, except soon after a rate limit: the gateway has just retried for them. After a
    fault of this machine another gateway may serve the client.
    """
    if fault.blame == "key" or (fault.blame == "model" and isinstance(pool, PoolExhaustedError)):
        return pool
    if fault.error.is_final:
        # The time until the limit is whole again helps nobody: the request never fits.
        fault.error.headers = {
            name: value for name, value in fault.error.headers.items() if not name.startswith(_RETRY_AFTER)
        }
        advice = _NO_RETRY
    elif fault.error.status == _TOO_MANY_REQUESTS:
        advice = {**(pool.headers if isinstance(pool, PoolExhaustedError) else retry_headers(fault.rest or 0.0))}
    elif fault.is_local:
        advice = retry_headers(_LOCAL_REST_SECONDS)
    else:
        advice = _NO_RETRY
    fault.error.headers = {**fault.error.headers, **advice}
    return fault.error


def _relayable(status: int, body: bytes, parsed: ParsedError | None) -> bytes:
    """Return a body that has OpenAI's shape as it came, else upstream's error in that shape."""
    if _is_openai_shaped(body):
        return body
    if parsed is None:
        parsed = ParsedError(f"Upstream answered with HTTP {status} and no usable error.")
    if status == _TOO_MANY_REQUESTS and parsed.code is None:
        parsed = replace(parsed, code=PoolExhaustedError.default_code, type=PoolExhaustedError.type)
    return parsed.body(status)


def _is_openai_shaped(body: bytes) -> bool:
    """Tell whether an SDK reads this error as it is."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    error = document.get("error") if isinstance(document, dict) else None
    return (
        isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("code"), str | None)
    )
