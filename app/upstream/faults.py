"""What a failed try means: for the account, and for the client if it was the last one. Must not choose an account."""

import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal, TypeAlias

import httpx
import orjson

from app.errors import ApiError, UpstreamError, UpstreamRefusedError
from app.upstream.exhausted import PoolExhaustedError, retry_headers
from app.upstream.headers import answer_headers, as_text
from app.upstream.local_faults import local_fault
from app.upstream.reach import OutOfReachError
from app.upstream.retry_after import retry_after
from app.upstream.transport import UnansweredError
from app.upstream.tunnel import ProxyRefusedError
from app.wire.error_words import ErrorWords, plain_words, read_words
from app.wire.oversized import is_oversized

# Everything that a call over a transport can raise. TimeoutError: of a deadline of ours.
# InvalidURL: of a base_url whose host is almost an address, such as 010.1.1.1.
TRANSPORT_ERRORS = (httpx.TransportError, httpx.InvalidURL, TimeoutError)
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
# Where the API itself refuses, its plain text is for the client. What is before it speaks of hosts, and mostly in 5xx.
_SPOKEN_PLAINLY = _CLIENT_FAULTS | {_TOO_MANY_REQUESTS}
_LOCAL_REST_SECONDS = 1.0
_RETRY_AFTER = "retry-after"
_NO_RETRY = {"x-should-retry": "false"}
_MODEL_LACKING = frozenset({400, 403, 404})
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")
_QUOTA_SPENT = frozenset({"insufficient_quota", "credit_balance_exhausted"})


class UpstreamBrokenError(UpstreamError):
    """Upstream's answer broke off after its first byte: no other account can take over."""


Blame: TypeAlias = Literal[
    "key", "quota", "rate", "size", "server", "unreachable", "model", "content", "resolver", "machine"
]
"""What is at fault: the key, its quota, its rate; the size of the request, which is more than all that the account may
have; the server, which may have done the work all the same, or the way to it, which cannot; that this account does not
have the model, or cannot read what another account has encrypted; the name resolution of this machine, or the machine
itself, which say nothing of any account."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one try failed. `rest` is what upstream asks for, in seconds. `reason` is for people, and no secret.

    `is_stale`: the connection was one that had been kept, and was closed before any byte of an answer. `is_told`:
    upstream itself has said that the call ended without an answer.
    """

    error: UpstreamError
    blame: Blame
    reason: str
    rest: float | None = None
    is_stale: bool = False
    is_told: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is a fault of this machine."""
        return self.blame in {"resolver", "machine"}

    @property
    def is_timeout(self) -> bool:
        """Whether upstream may be at work on the call still."""
        return self.error.code == "upstream_timeout"


def _unserved(error: UpstreamError, blame: Blame = "server", *, is_stale: bool = False) -> Fault:
    return Fault(error, blame, str(error.code), is_stale=is_stale)


def broken(exception: BaseException) -> Fault:
    """The fault of a try that ended in one of TRANSPORT_ERRORS. The exception's text stays here: it names hosts."""
    local = local_fault(exception)
    if local is not None:
        ours = UpstreamError(local.message, code=local.code, status=503)
        return _unserved(ours, "resolver" if local.is_of_names else "machine")
    if isinstance(exception, _TIMEOUTS):
        late = UpstreamError("Upstream did not answer in time.", code="upstream_timeout", status=504)
        return _unserved(late, "unreachable" if isinstance(exception, httpx.ConnectTimeout) else "server")
    if isinstance(exception, ProxyRefusedError):
        return _refused_by_proxy(exception.status)
    if isinstance(exception, OutOfReachError):
        refused_address = UpstreamError(
            "Upstream could not be reached: its address is one that this gateway does not call.",
            code="upstream_address_refused",
        )
        return _unserved(refused_address, "unreachable")
    if isinstance(exception, _UNREACHABLE):
        return _unserved(UpstreamError("Upstream could not be reached.", code="upstream_unreachable"), "unreachable")
    if isinstance(exception, httpx.ProtocolError):
        return _unserved(UpstreamError("Upstream did not answer in valid HTTP.", code="upstream_invalid_answer"))
    return disconnected(is_stale=isinstance(exception, UnansweredError))


def _refused_by_proxy(status: int) -> Fault:
    error = UpstreamError(
        f"The proxy on the way to upstream refused the call (HTTP {status}).", code="upstream_proxy_refused"
    )
    return Fault(error, "unreachable", f"HTTP {status} of the proxy")


def disconnected(*, is_stale: bool = False) -> Fault:
    """The fault of a connection that was closed before the first byte of a body."""
    error = UpstreamError("Upstream closed the connection before it answered.", code="upstream_disconnected")
    return _unserved(error, is_stale=is_stale)


def encoded() -> UpstreamError:
    """The error of an answer in an encoding that was not asked for: neither we nor the client could read it."""
    return UpstreamError(
        "Upstream compressed its answer, though it was asked not to.",
        code="upstream_invalid_answer",
        headers=_NO_RETRY,
    )


def broken_off(exception: BaseException) -> UpstreamBrokenError:
    """The error of an answer that ended in one of TRANSPORT_ERRORS after its first byte."""
    if isinstance(exception, _TIMEOUTS):
        return UpstreamBrokenError("Upstream stopped sending.", code="upstream_idle_timeout", status=504)
    if isinstance(exception, httpx.ProtocolError):
        return UpstreamBrokenError("Upstream's answer stopped being valid HTTP.", code="upstream_invalid_answer")
    return UpstreamBrokenError("Upstream closed the connection early.", code="upstream_disconnected")


def refused(status: int, headers: httpx.Headers, body: bytes, *, now: float) -> Fault:
    """The fault of an answer that is no success. `now` is unix time.

    Raises UpstreamRefusedError when the fault is the client's: no other account would answer differently.
    """
    words = read_words(body)
    if words is None and status in _SPOKEN_PLAINLY:
        words = plain_words(body)
    told, _ = answer_headers(headers.raw)
    shown = as_text(told)
    shown.pop("content-type", None)
    named = None if words is None else words.code
    code = named if named is not None and _CODE.fullmatch(named) else None
    reason = f"HTTP {status}" if code is None else f"HTTP {status} {code}"
    relayed = UpstreamRefusedError(status, _relayable(status, body, words), shown, code)
    if status in _MODEL_LACKING and code == "model_not_found":
        return Fault(relayed, "model", reason)
    if code == "invalid_encrypted_content":
        return Fault(relayed, "content", reason)
    if status in _CLIENT_FAULTS:
        raise relayed
    if status == _PROXY_AUTHENTICATION:
        # Only a proxy says it; to an http origin its answer comes in place of upstream's.
        return _refused_by_proxy(status)
    # A 403 that is not the API's own comes from something before it, a filter say, and tells nothing of the key.
    if status in _KEY_FAULTS and (status != _FORBIDDEN or (words is not None and _ERROR in body)):
        unusable = UpstreamError(
            f"Upstream did not accept this gateway's credentials (HTTP {status}).", code="upstream_authentication_error"
        )
        return Fault(unusable, "key", reason)
    asked = retry_after(headers, now)
    if status == _TOO_MANY_REQUESTS:
        return _limited(relayed, words, reason, asked)
    error: UpstreamError = relayed
    if words is None or status < _FIRST_ERROR_STATUS:
        error = UpstreamError(f"Upstream answered with HTTP {status} and no usable error.")
    # A gateway that has lost patience knows nothing of what is behind it.
    return Fault(error, "server", reason, rest=asked, is_told=status != HTTPStatus.GATEWAY_TIMEOUT)


def _limited(relayed: UpstreamRefusedError, words: ErrorWords | None, reason: str, asked: float | None) -> Fault:
    if words is not None and not _QUOTA_SPENT.isdisjoint((words.code, words.type)):
        return Fault(relayed, "quota", reason)
    if words is not None and is_oversized(words):
        relayed.is_final = True
        return Fault(relayed, "size", reason)
    return Fault(relayed, "rate", reason, rest=asked)


def limit_of(words: ErrorWords) -> Fault:
    """The fault of an account that met a limit in the midst of its answer."""
    return resting_shortly(refused(_TOO_MANY_REQUESTS, httpx.Headers(), words.body(_TOO_MANY_REQUESTS), now=0.0))


def resting_shortly(fault: Fault) -> Fault:
    """The fault that an event told: it has no header for a time, so a limit rests for the shortest, and then longer."""
    return replace(fault, rest=0.0) if fault.blame == "rate" and fault.rest is None else fault


def refusal_of(words: ErrorWords) -> UpstreamRefusedError:
    """The error of an answer of success that says in its body what went wrong."""
    status = words.status or _BAD_GATEWAY
    return UpstreamRefusedError(status, words.body(status), {}, words.code)


def last_word(fault: Fault, pool: ApiError) -> ApiError:
    """What the client is told when no other account is left. `pool` is what the pool says to those that come now.

    The SDKs are told not to try again, except soon after a rate limit: the gateway has just done it for them. After a
    fault of this machine another may serve them.
    """
    if fault.blame == "key" or (fault.blame == "model" and isinstance(pool, PoolExhaustedError)):
        return pool
    if fault.error.is_final:
        # Upstream may say when the limit is whole again, which helps nobody.
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


def _relayable(status: int, body: bytes, words: ErrorWords | None) -> bytes:
    """The body as it came where it has OpenAI's shape, else upstream's own words in that shape."""
    if _is_ours(body):
        return body
    if words is None:
        words = ErrorWords(f"Upstream answered with HTTP {status} and no usable error.")
    if status == _TOO_MANY_REQUESTS and words.code is None:
        words = replace(words, code=PoolExhaustedError.default_code, type=PoolExhaustedError.type)
    return words.body(status)


def _is_ours(body: bytes) -> bool:
    """Whether an SDK reads this error as it is."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    error = said.get("error") if isinstance(said, dict) else None
    return (
        isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("code"), str | None)
    )
