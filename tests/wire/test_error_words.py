"""An error in any public shape says the same in OpenAI's."""

from typing import Any

import orjson
import pytest

from app.wire.error_words import ErrorWords, plain_words, read_words

_SAID = "The prompt is too long."


@pytest.mark.parametrize(
    ("shape", "code", "status"),
    [
        ({"error": {"message": _SAID, "type": "invalid_request_error", "param": "input", "code": None}}, None, 400),
        ({"error": {"message": _SAID, "code": "context_length_exceeded"}}, "context_length_exceeded", 400),
        # OpenRouter, Gemini, xAI, FastAPI twice, an error within one, a list of them, Go's and Java's frameworks.
        ({"error": {"message": _SAID, "code": 429}}, None, 429),
        ([{"error": {"code": 400, "message": _SAID, "status": "INVALID_ARGUMENT"}}], "INVALID_ARGUMENT", 400),
        ({"code": "invalid-argument", "error": _SAID}, "invalid-argument", 400),
        ({"detail": _SAID}, None, None),
        ({"detail": [{"loc": ["body", "tools", 0], "msg": _SAID, "type": "value_error"}]}, None, 422),
        ({"error": {"error": {"message": _SAID, "code": "rate_limit_exceeded"}}}, "rate_limit_exceeded", 429),
        ({"errors": [{"message": _SAID}]}, None, None),
        ({"errors": [_SAID]}, None, None),
        ({"message": _SAID, "status": 503}, None, 503),
        ({"statusCode": 400, "message": [_SAID], "error": "Bad Request", "status": "failed"}, None, None),
        ({"title": "Bad", "detail": _SAID, "status": 422}, None, 422),
        ({"type": "error", "code": "insufficient_quota", "message": _SAID, "param": None}, "insufficient_quota", 429),
        ({"type": "error", "error": {"type": "overloaded_error", "message": _SAID}}, None, 503),
    ],
)
def test_the_words_of_every_public_shape_are_read(shape: Any, code: str | None, status: int | None) -> None:
    words = read_words(orjson.dumps(shape))
    assert words is not None
    assert (words.message, words.code, words.status) == (_SAID, code, status)


def test_the_place_that_fastapi_names_is_the_param() -> None:
    words = read_words(b'{"detail":[{"loc":["body","tools",0,"name"],"msg":"Missing.","type":"missing"}]}')
    assert words is not None
    assert words.param == "tools[0].name"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"7", b"<html>", b'{"error":{"code":1}}', b'{"error":""}']
)
def test_what_tells_no_error_has_no_words(body: bytes) -> None:
    assert read_words(body) is None


def test_an_error_nested_without_end_is_given_up() -> None:
    assert read_words(b'{"error":' * 50 + b'"x"' + b"}" * 50) is None


def test_a_sentence_is_words_and_a_page_is_not() -> None:
    assert plain_words(b"prompt is too long: 250000 tokens\n") == ErrorWords("prompt is too long: 250000 tokens")
    for page in (b"", b"  ", b"<html>No</html>", b"\x00\x01", b'{"a":1}'):
        assert plain_words(page) is None
    long = plain_words(b"x" * 100_000)
    assert long is not None
    assert len(long.message) == 4096


def test_words_are_answered_in_openais_shape_with_all_its_members() -> None:
    words = ErrorWords("No.", "odd", None, "input", 400)
    assert orjson.loads(words.body(400)) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": "odd"}
    }
    assert orjson.loads(words.body(502))["error"]["type"] == "server_error"
