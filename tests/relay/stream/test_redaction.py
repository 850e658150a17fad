"""Upstream's key in what upstream says: gone from failures, and nothing else is touched."""

import pytest

from app.relay.stream.redaction import may_quote_key, redacted_answer
from app.upstream.account import Account, accounts_of
from app.wire.responses import stream_events
from tests.fakes.gateway import upstream_settings
from tests.fakes.streams import frame

_KEY = "gsk_0123456789abcdef"
_FAILED = {"id": "resp_1", "status": "failed", "error": {"code": "x", "message": f"No: {_KEY}."}}


def account(key: str) -> Account:
    return next(accounts_of(upstream_settings("http://upstream.example", key)))


@pytest.mark.parametrize(
    "failure",
    [
        frame("error", 3, message=f"No: {_KEY}.", code=None),
        frame("response.failed", 3, response=_FAILED),
        frame("response.mcp_call.failed", 3, error=f"No: {_KEY}."),
        b'data: {"error": {"message": "No: %b."}}\n\n' % _KEY.encode(),
    ],
)
def test_a_failure_loses_the_key_and_nothing_else(failure: bytes) -> None:
    assert may_quote_key(failure, stream_events.kind(failure))
    assert account(_KEY).redacted(failure) == failure.replace(_KEY.encode(), b"[redacted]")


@pytest.mark.parametrize("kind", ["response.output_text.delta", "response.completed"])
def test_what_a_model_says_is_passed_on_as_it_is(kind: str) -> None:
    said = frame(kind, 3, delta=f'"error" {_KEY}')
    assert not may_quote_key(said, stream_events.kind(said))


def test_a_whole_answer_loses_the_key_where_it_failed() -> None:
    assert redacted_answer(account(_KEY), b'{"status":"failed","error":"%b"}' % _KEY.encode()) == (
        b'{"status":"failed","error":"[redacted]"}'
    )
    said = b'{"status":"completed","output":"%b"}' % _KEY.encode()
    assert redacted_answer(account(_KEY), said) == said


def test_a_placeholder_is_no_secret() -> None:
    failure = frame("error", 3, message="no model of ollama's has this name", code=None)
    assert account("ollama").redacted(failure) == failure
    assert account("o").redacted_headers([(b"x-request-id", b"one")]) == [(b"x-request-id", b"one")]


def test_a_header_that_quotes_the_key_is_dropped() -> None:
    headers = [(b"x-request-id", b"key=%b" % _KEY.encode()), (b"openai-version", b"1")]
    assert account(_KEY).redacted_headers(headers) == [(b"openai-version", b"1")]
