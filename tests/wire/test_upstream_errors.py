"""An error in any public shape says the same in OpenAI's."""

from typing import Any

import orjson
import pytest

from app.wire.upstream_errors import ParsedError, parse_json_error, parse_plain_error, response_error

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
    words = parse_json_error(orjson.dumps(shape))
    assert words is not None
    assert (words.message, words.code, words.status) == (_SAID, code, status)


def test_the_place_that_fastapi_names_is_the_param() -> None:
    words = parse_json_error(b'{"detail":[{"loc":["body","tools",0,"name"],"msg":"Missing.","type":"missing"}]}')
    assert words is not None
    assert words.param == "tools[0].name"


@pytest.mark.parametrize("place", [[None], [{}, [1]], [True], ["x" * 300], [[[["body"]]]], []])
def test_a_place_that_is_none_is_no_param(place: Any) -> None:
    words = parse_json_error(orjson.dumps({"detail": [{"loc": place, "msg": "Missing."}]}))
    assert words == ParsedError("Missing.", status=422)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (ParsedError("Slow.", status=429), "rate_limit_exceeded", "Slow."),
        (ParsedError("Slow.", "throttled", status=429), "rate_limit_exceeded", "Slow. (throttled)"),
        (ParsedError("Pay.", type="insufficient_quota", status=429), "server_error", "Pay."),
        (ParsedError("Bad.", "odd", status=400), "invalid_prompt", "Bad. (odd)"),
        (ParsedError("Down.", status=503), "server_error", "Down."),
    ],
)
def test_the_error_of_a_response_has_one_of_its_few_codes(words: ParsedError, code: str, message: str) -> None:
    assert response_error(words) == {"code": code, "message": message}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"7", b"<html>", b'{"error":{"code":1}}', b'{"error":""}']
)
def test_what_tells_no_error_has_no_words(body: bytes) -> None:
    assert parse_json_error(body) is None


def test_an_error_nested_without_end_is_given_up() -> None:
    for begin, end in ((b'{"error":', b"}"), (b"[", b"]"), (b'{"detail":[', b"]}"), (b'{"loc":[', b"]}")):
        for levels in (50, 300, 500):
            assert parse_json_error(begin * levels + b'"x"' + end * levels) is None


def test_a_sentence_is_words_and_a_page_is_not() -> None:
    assert parse_plain_error(b"prompt is too long: 250000 tokens\n") == ParsedError("prompt is too long: 250000 tokens")
    for page in (b"", b"  ", b"<html>No</html>", b"\x00\x01", b'{"a":1}'):
        assert parse_plain_error(page) is None


@pytest.mark.parametrize("is_json", [True, False])
def test_a_page_is_cut_between_two_words_so_that_half_a_key_is_in_none(is_json: bool) -> None:
    said = "word " * 815 + "the key sk-1234567890123456789 is wrong"
    assert said.index("sk-") + 10 < 4096 < said.index(" is wrong")
    for page, message in ((said, "word " * 815 + "the key"), ("x" * 5000, None), ("x" * 4096, "x" * 4096)):
        found = parse_json_error(orjson.dumps({"error": page})) if is_json else parse_plain_error(page.encode())
        assert (found and found.message) == message


def test_words_are_answered_in_openais_shape_with_all_its_members() -> None:
    words = ParsedError("No.", "odd", None, "input", 400)
    assert orjson.loads(words.body(400)) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": "odd"}
    }
    assert orjson.loads(words.body(502))["error"]["type"] == "server_error"
    assert orjson.loads(words.body(429))["error"]["type"] == "rate_limit_error"
