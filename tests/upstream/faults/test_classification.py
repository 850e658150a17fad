import httpx
import orjson
import pytest

from app.errors import UpstreamError, UpstreamRefusedError
from app.upstream.faults.classification import (
    Fault,
    UpstreamBrokenError,
    error_of_broken_body,
    error_when_all_failed,
    fault_of_exception,
    fault_of_status,
)
from app.upstream.faults.pool_exhausted import all_limited, no_key_accepted
from app.upstream.http.proxy_tunnel import ProxyRefusedError
from app.upstream.transport import UnansweredError

HTML = b"<html>sk-canary-one at api.internal</html>"


def shaped(code: str | None = None, kind: str = "server_error") -> bytes:
    return orjson.dumps({"error": {"message": "Upstream's words.", "type": kind, "param": None, "code": code}})


def refuse(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Fault:
    return fault_of_status(status, httpx.Headers(headers), body, now=1_790_000_000.0)


def error_of(error: UpstreamError) -> dict[str, object]:
    error_object = orjson.loads(error.body())["error"]
    assert isinstance(error_object, dict)
    return error_object


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 413, 415, 422, 451])
def test_the_clients_fault_is_relayed_as_it_came(status: int) -> None:
    with pytest.raises(UpstreamRefusedError) as caught:
        refuse(status, shaped("unknown_parameter"), {"x-request-id": "req_up", "set-cookie": "a=b"})
    assert caught.value.status == status
    assert caught.value.body() == shaped("unknown_parameter")
    assert caught.value.headers == {"x-upstream-request-id": "req_up"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HTML, "Upstream answered with HTTP 413 and no usable error."),
        (b"", "Upstream answered with HTTP 413 and no usable error."),
        (b"[]", "Upstream answered with HTTP 413 and no usable error."),
        (b'{"error":{"code":1}}', "Upstream answered with HTTP 413 and no usable error."),
        (b'{"detail":"Unsupported parameter: user"}', "Unsupported parameter: user"),
        (b'{"object":"error","message":"Too long"}', "Too long"),
        (b'{"error":"Too long"}', "Too long"),
    ],
)
def test_a_refusal_of_another_shape_is_wrapped(body: bytes, message: str) -> None:
    with pytest.raises(UpstreamRefusedError) as caught:
        refuse(413, body)
    assert caught.value.status == 413
    assert error_of(caught.value) == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_is_at_fault_and_is_never_the_clients_401(status: int) -> None:
    fault = refuse(status, orjson.dumps({"error": {"message": "Incorrect API key provided: sk-canary-one"}}))
    assert (fault.blame, fault.reason) == ("key", f"HTTP {status}")
    assert (fault.error.status, fault.error.code) == (502, "upstream_authentication_error")
    assert b"canary" not in fault.error.body()
    pool = no_key_accepted(42)
    assert error_when_all_failed(fault, pool) is pool
    assert pool.headers == {"retry-after": "42", "retry-after-ms": "42000", "x-should-retry": "false"}


def test_a_403_that_is_not_the_apis_own_is_not_the_keys_fault() -> None:
    fault = refuse(403, b"<html>Blocked by the firewall</html>")
    assert (fault.blame, fault.rest) == ("server", None)
    assert fault.error.status == 502
    assert b"firewall" not in fault.error.body()


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_key_that_has_not_one_model_lacks_it_and_the_refusal_is_upstreams(status: int) -> None:
    fault = refuse(status, shaped("model_not_found"))
    assert (fault.blame, fault.error.status, fault.error.body()) == ("model", status, shaped("model_not_found"))
    assert error_when_all_failed(fault, no_key_accepted(5)) is fault.error
    # One that has it may be back soon.
    assert error_when_all_failed(fault, all_limited(5)).status == 429


def test_an_item_that_is_not_found_is_nobodys_fault_but_the_clients() -> None:
    with pytest.raises(UpstreamRefusedError):
        refuse(404, shaped(None, "invalid_request_error"))


def test_what_is_no_code_in_an_error_is_none_of_ours() -> None:
    assert refuse(500, shaped("overloaded")).error.code == "overloaded"
    for code in (["insufficient_quota"], "a code of many words", 7):
        fault = refuse(429, orjson.dumps({"error": {"message": "No.", "type": {}, "code": code}}))
        assert (fault.blame, fault.reason, fault.error.code) == ("rate", "HTTP 429", "upstream_error")


def test_content_that_cannot_be_decrypted_may_be_another_accounts() -> None:
    fault = refuse(400, shaped("invalid_encrypted_content"))
    assert (fault.blame, fault.error.body()) == ("content", shaped("invalid_encrypted_content"))


@pytest.mark.parametrize(
    ("headers", "body", "blame", "rest"),
    [
        ({}, shaped("rate_limit_exceeded"), "rate", None),
        ({"retry-after": "15"}, shaped("rate_limit_exceeded"), "rate", 15),
        ({"retry-after-ms": "1500"}, HTML, "rate", 1.5),
        ({"retry-after": "0"}, HTML, "rate", 0),
        ({"x-ratelimit-reset-requests": "6m0s"}, shaped(), "rate", 360),
        ({"retry-after": "1"}, shaped("insufficient_quota"), "quota", None),
        ({"retry-after": "1"}, shaped(None, "insufficient_quota"), "quota", None),
        ({}, shaped("credit_balance_exhausted"), "quota", None),
    ],
)
def test_a_rate_limited_key_rests_for_as_long_as_it_was_told(
    headers: dict[str, str], body: bytes, blame: str, rest: float | None
) -> None:
    fault = refuse(429, body, headers)
    assert (fault.blame, fault.rest, fault.error.status) == (blame, rest, 429)


def test_a_request_larger_than_the_limit_is_its_own_fault_and_waits_for_nothing() -> None:
    said = {"message": "Request too large: Limit 3, Requested 4.", "type": "tokens", "param": None}
    body = orjson.dumps({"error": {**said, "code": "rate_limit_exceeded"}})
    fault = refuse(429, body, {"retry-after": "60", "retry-after-ms": "60000", "openai-version": "1"})
    assert (fault.blame, fault.rest, fault.error.is_final) == ("size", None, True)
    error = error_when_all_failed(fault, all_limited(4.2))
    assert (error.status, error.body()) == (429, body)
    assert error.headers == {"openai-version": "1", "x-should-retry": "false"}


def test_a_last_429_is_upstreams_with_the_pools_wait() -> None:
    refusal = refuse(429, shaped("rate_limit_exceeded"), {"retry-after": "50", "openai-version": "1"})
    error = error_when_all_failed(refusal, all_limited(4.2))
    assert error.body() == shaped("rate_limit_exceeded")
    assert error.headers == {"openai-version": "1", "retry-after": "5", "retry-after-ms": "4200"}


def test_a_last_429_with_a_long_wait_tells_the_sdk_not_to_retry() -> None:
    error = error_when_all_failed(refuse(429, shaped("insufficient_quota")), all_limited(3600))
    assert error.headers == {"retry-after": "3600", "retry-after-ms": "3600000", "x-should-retry": "false"}


def test_a_429_without_a_usable_body_is_wrapped_as_a_rate_limit() -> None:
    assert error_of(refuse(429, HTML).error) == {
        "message": "Upstream answered with HTTP 429 and no usable error.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


@pytest.mark.parametrize("status", [408, 418, 500, 502, 503, 504, 529])
def test_a_server_error_in_openais_shape_is_relayed_when_it_is_the_last(status: int) -> None:
    fault = refuse(status, shaped())
    assert (fault.blame, fault.rest) == ("server", None)
    error = error_when_all_failed(fault, all_limited(1))
    assert (error.status, error.body()) == (status, shaped())
    assert error.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize("status", [302, 307, 408, 500, 503])
def test_html_never_leaks(status: int) -> None:
    error = refuse(status, HTML).error
    assert (error.status, error.code) == (502, "upstream_error")
    assert error.message == f"Upstream answered with HTTP {status} and no usable error."


def test_a_proxy_that_wants_other_credentials_is_named_and_no_fault_of_a_key() -> None:
    for fault in (refuse(407, HTML), fault_of_exception(ProxyRefusedError(407))):
        assert (fault.error.status, fault.error.code, fault.blame) == (502, "upstream_proxy_refused", "unreachable")
        assert fault.error.message == "The proxy on the way to upstream refused the call (HTTP 407)."


def test_a_redirect_is_never_relayed_even_with_an_error_in_it() -> None:
    assert refuse(307, shaped()).error.status == 502


def test_a_busy_server_rests_when_it_says_for_how_long() -> None:
    assert refuse(503, shaped("server_is_overloaded"), {"retry-after": "7"}).rest == 7


@pytest.mark.parametrize(
    ("exception", "status", "code", "blame"),
    [
        (TimeoutError(), 504, "upstream_timeout", "server"),
        (httpx.ConnectTimeout(""), 504, "upstream_timeout", "unreachable"),
        (httpx.PoolTimeout(""), 503, "gateway_connections_exhausted", "machine"),
        (httpx.ReadTimeout(""), 504, "upstream_timeout", "server"),
        (httpx.ConnectError(""), 502, "upstream_unreachable", "unreachable"),
        (httpx.ProxyError(""), 502, "upstream_unreachable", "unreachable"),
        (httpx.UnsupportedProtocol(""), 502, "upstream_unreachable", "unreachable"),
        (httpx.RemoteProtocolError(""), 502, "upstream_invalid_answer", "server"),
        (UnansweredError(""), 502, "upstream_disconnected", "server"),
        (httpx.ReadError(""), 502, "upstream_disconnected", "server"),
    ],
)
def test_a_failed_exchange_is_named_after_what_happened(
    exception: Exception, status: int, code: str, blame: str
) -> None:
    fault = fault_of_exception(exception)
    assert (fault.error.status, fault.error.code, fault.blame, fault.rest) == (status, code, blame, None)
    assert fault.is_stale == isinstance(exception, UnansweredError)


@pytest.mark.parametrize(
    ("exception", "code"),
    [
        (TimeoutError(), "upstream_idle_timeout"),
        (httpx.ReadTimeout("sk-canary-one"), "upstream_idle_timeout"),
        (httpx.ReadError("sk-canary-one"), "upstream_disconnected"),
        (httpx.RemoteProtocolError("sk-canary-one"), "upstream_invalid_answer"),
    ],
)
def test_what_breaks_after_the_first_byte_is_not_a_try_that_failed(exception: Exception, code: str) -> None:
    error = error_of_broken_body(exception)
    assert isinstance(error, UpstreamBrokenError)
    assert error.code == code
    assert b"canary" not in error.body()
