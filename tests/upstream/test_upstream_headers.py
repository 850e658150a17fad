import httpx
import pytest

from app import __version__
from app.settings_upstream import UpstreamSettings
from app.upstream.account import accounts_of
from app.upstream.headers import RequestHeaders, answer_headers, as_text, is_encoded
from tests.upstream.rig import KEYS, upstream_settings

(ACCOUNT,) = accounts_of(upstream_settings())


def test_upstream_is_sent_our_headers_and_two_of_the_clients() -> None:
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
    assert dict(RequestHeaders(ACCOUNT).beside(client, stream=True)) == {
        "authorization": f"Bearer {KEYS[0]}",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"antiphon/{__version__}",
        "openai-beta": "responses=v1",
        "x-client-request-id": "abc-1",
    }


@pytest.mark.parametrize("value", ["", "x" * 513, "a\r\nx-evil: 1", "a\x00", "é", "a\tb"])
def test_a_client_header_that_is_long_or_not_printable_is_left_out(value: str) -> None:
    assert "x-client-request-id" not in RequestHeaders(ACCOUNT).beside({"x-client-request-id": value}, stream=False)


def test_an_account_without_a_key_sends_no_authorization() -> None:
    (keyless,) = accounts_of(UpstreamSettings(name="local", base_url="http://a/v1"))
    headers = RequestHeaders(keyless).beside({"authorization": "Bearer client"}, stream=False)
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
            "content-length": "3",
            "transfer-encoding": "chunked",
            "server": "up",
            "location": "http://evil.example",
        }
    )
    assert as_text(answer_headers(upstream.raw)) == {
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
    assert answer_headers(upstream) == {b"retry-after": b"1"}


def test_an_answer_header_keeps_its_bytes() -> None:
    assert answer_headers([(b"OpenAI-Version", b"caf\xe9")]) == {b"openai-version": b"caf\xe9"}


def test_of_a_repeated_header_the_first_is_shown() -> None:
    upstream = [(b"x-request-id", b"one"), (b"X-Request-Id", b"two")]
    assert answer_headers(upstream) == {b"x-upstream-request-id": b"one"}


def test_only_another_encoding_than_none_counts_as_one() -> None:
    assert is_encoded([(b"Content-Encoding", b"gzip")])
    assert not is_encoded([(b"content-encoding", b"Identity"), (b"content-type", b"gzip")])
