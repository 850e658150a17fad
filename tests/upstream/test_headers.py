import httpx
import pytest

from app import __version__
from app.settings.upstreams import UpstreamSettings
from app.upstream.account import accounts_of
from app.upstream.headers import answer_headers, as_text, client_headers, request_headers
from app.upstream.transport import RawHeaders
from tests.upstream.rig import KEYS, upstream_settings

(ACCOUNT,) = accounts_of(upstream_settings())


def shown(upstream: RawHeaders) -> dict[bytes, bytes]:
    headers, _ = answer_headers(upstream)
    return headers


def test_upstream_is_sent_two_of_the_clients_headers() -> None:
    client = {
        "authorization": "Bearer sk-antiphon-client",
        "cookie": "session=1",
        "host": "evil.example",
        "x-forwarded-for": "10.0.0.1",
        "x-api-key": "sk-antiphon-client",
        "openai-organization": "org-1",
        "x-portkey-custom-host": "http://evil.example",
        "accept-encoding": "gzip",
        "user-agent": "OpenAI/Python",
        "openai-beta": "responses=v1",
        "x-client-request-id": "abc-1",
    }
    assert client_headers(client) == [(b"openai-beta", b"responses=v1"), (b"x-client-request-id", b"abc-1")]


def test_upstream_is_sent_our_own_headers() -> None:
    assert dict(request_headers(ACCOUNT, stream=True)) == {
        "authorization": f"Bearer {KEYS[0]}",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"antiphon/{__version__}",
    }


@pytest.mark.parametrize("value", ["", "x" * 513, "a\r\nx-evil: 1", "a\x00", "é", "a\tb"])
def test_a_client_header_that_is_long_or_not_printable_is_left_out(value: str) -> None:
    assert client_headers({"x-client-request-id": value}) == []


def test_an_account_without_a_key_sends_no_authorization() -> None:
    (keyless,) = accounts_of(UpstreamSettings(name="local", base_url="http://a/v1"))
    headers = request_headers(keyless, stream=False)
    assert "authorization" not in headers
    assert headers["accept"] == "application/json"


def test_the_client_sees_only_the_listed_headers() -> None:
    upstream = httpx.Headers(
        {
            "Content-Type": "text/event-stream",
            "OpenAI-Processing-MS": "12",
            "openai-version": "2020-10-01",
            "retry-after": "3",
            "retry-after-ms": "2500",
            "X-RateLimit-Remaining-Tokens": "9",
            "x-request-id": "req_up",
            "x-upstream-request-id": "forged",
            "set-cookie": "a=b",
            "www-authenticate": "Bearer",
            "openai-organization": "org-secret",
            "x-goog-api-key": "sk-up",
            "x-antiphon-dropped": "forged",
            "content-length": "3",
            "transfer-encoding": "chunked",
            "server": "up",
            "location": "http://evil.example",
        }
    )
    assert as_text(shown(upstream.raw)) == {
        "content-type": "text/event-stream",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        "retry-after": "3",
        "retry-after-ms": "2500",
        "x-ratelimit-remaining-tokens": "9",
        "x-upstream-request-id": "req_up",
    }


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\x00b", "日本", "a\x1bb", "a\tb", "a\xa0b"])
def test_an_answer_header_that_could_not_be_sent_is_dropped(value: str) -> None:
    upstream = [(b"openai-version", value.encode("utf-8")), (b"retry-after", b"1")]
    assert shown(upstream) == {b"retry-after": b"1"}


def test_an_answer_header_keeps_its_bytes() -> None:
    assert shown([(b"OpenAI-Version", b"caf\xe9")]) == {b"openai-version": b"caf\xe9"}


def test_of_a_repeated_header_the_first_is_shown() -> None:
    upstream = [(b"x-request-id", b"one"), (b"X-Request-Id", b"two")]
    assert shown(upstream) == {b"x-upstream-request-id": b"one"}


def test_only_another_encoding_than_none_counts_as_one() -> None:
    identity = (b"content-encoding", b"Identity")
    for value in (b"gzip", b"identity, gzip", b"", b"a\nb"):
        assert answer_headers([identity, (b"Content-Encoding", value)]) == ({}, True)
    assert answer_headers([identity, (b"content-type", b"gzip")]) == ({b"content-type": b"gzip"}, False)
