import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.wire.json_body import decode_object, elements, join_array
from tests.fakes.json_bytes import join_object, members

MAX_DEPTH = 64

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=12,
)


def nested(depth: int) -> bytes:
    """An object `depth` levels deep, itself included, alternating between arrays and objects."""
    opening = b'{"a":'
    closing = b"}"
    for level in range(depth - 1):
        opening += b"[" if level % 2 else b'{"b":'
        closing = (b"]" if level % 2 else b"}") + closing
    return opening + b"1" + closing


def refusal(raw: bytes, max_depth: int = MAX_DEPTH) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        decode_object(raw, max_depth)
    assert caught.value.status == 400
    assert caught.value.param is None
    assert orjson.loads(caught.value.body())["error"]["type"] == "invalid_request_error"
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="text"),
        pytest.param(b'{"a":1', id="truncated"),
        pytest.param(b'{"a":1}x', id="trailing junk"),
        pytest.param(b'{"a":1}{"b":2}', id="two objects"),
        pytest.param(b'{"a":1,}', id="trailing comma"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":Infinity}', id="Infinity"),
        pytest.param(b'{"a":-Infinity}', id="-Infinity"),
        pytest.param(b'{"a":1e999}', id="1e999"),
        pytest.param(b'{"a":-1e999}', id="-1e999"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="an integer of 5,000 digits"),
        pytest.param(b'{"a":01}', id="leading zero"),
        pytest.param(b'{"a":"\\ud800"}', id="lone high surrogate"),
        pytest.param(b'{"a":"\\udc00"}', id="lone low surrogate"),
        pytest.param(b'{"\\ud800":1}', id="lone surrogate in a key"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(b'{"a":"\xff"}', id="invalid UTF-8"),
        pytest.param(b'{"a":"\x00"}', id="a raw NUL"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="BOM"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"[" * 500, id="unclosed brackets"),
    ],
)
def test_what_is_not_strict_json_in_utf8_is_refused_in_openais_words(raw: bytes) -> None:
    error = refusal(raw)
    assert error.code == "invalid_json"
    assert error.message == (
        "Invalid body: failed to parse JSON value. Please check the value to ensure it is valid JSON. "
        "(Common errors include trailing commas, missing closing brackets, missing quotation marks, etc.)"
    )


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"null", "null"),
        (b"[]", "an array"),
        (b'[{"model":"m"}]', "an array"),
        (b'"text"', "a string"),
        (b"1", "an integer"),
        (b"1.5", "a decimal"),
        (b"true", "a boolean"),
    ],
)
def test_a_body_that_is_not_an_object_is_told_what_it_is(raw: bytes, name: str) -> None:
    error = refusal(raw)
    assert error.code == "invalid_type"
    assert error.message == f"Invalid type for the request body: expected an object, but got {name} instead."


@pytest.mark.parametrize("max_depth", [1, 2, 3, 64])
def test_the_depth_limit_is_exact(max_depth: int) -> None:
    assert "a" in decode_object(nested(max_depth), max_depth)
    error = refusal(nested(max_depth + 1), max_depth)
    assert error.code is None
    assert (
        error.message == f"The JSON body of your request is nested too deeply: at most {max_depth} levels are allowed."
    )


@pytest.mark.parametrize("depth", [900, 1024, 1025, 5_000, 100_000])
def test_a_json_bomb_is_refused_as_too_deep(depth: int) -> None:
    assert "nested too deeply" in refusal(nested(depth)).message


def test_many_brackets_are_not_depth() -> None:
    wide = {"a": [[] for _ in range(1_000)], "b": [{} for _ in range(1_000)], "c": "[" * 1_000 + "{" * 1_000}
    assert decode_object(orjson.dumps(wide), 3) == wide


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":-0}', 0),
        (b'{"a":"\\u0000"}', "\x00"),
        ('{"a":"\u2028\u202e\u05d0\U0001f600"}'.encode(), "\u2028\u202e\u05d0\U0001f600"),
        (b'{"a":"\\ud83d\\ude00"}', "\U0001f600"),
        (b'{"a":1,"a":2}', 2),
        (b' \n\t\r{ "a" : [ ] } \n', []),
    ],
)
def test_odd_but_valid_json_is_read(raw: bytes, value: object) -> None:
    assert decode_object(raw, MAX_DEPTH) == {"a": value}


def test_200_000_keys_are_read() -> None:
    raw = orjson.dumps({f"k{number}": number for number in range(200_000)})
    assert len(decode_object(raw, MAX_DEPTH)) == 200_000
    assert members(raw)["k199999"] == b"199999"


VALUES_AS_SENT = [
    b"1.50",
    b"1e5",
    b"12345678901234567890123",
    b"-0",
    b'"\\u00e9\\/\\ud83d\\ude00"',
    '"é"'.encode(),
    b"null",
    b'[ 1 , {"x" : 2.0} ]',
    b'{"k":1,"k":2}',
]


@pytest.mark.parametrize("value", VALUES_AS_SENT)
def test_a_value_survives_byte_for_byte(value: bytes) -> None:
    assert members(b' { "a" : ' + value + b' , "b":0 } ') == {"a": value, "b": b"0"}
    assert elements(b" [ " + value + b" , 0 ] ") == [value, b"0"]
    assert members(join_object({"a": value})) == {"a": value}
    assert elements(join_array([value])) == [value]


def test_the_last_of_repeated_members_wins_as_it_does_in_decoding() -> None:
    raw = b'{"a":1,"\\u0061":2,"b":0}'
    assert members(raw) == {"a": b"2", "b": b"0"}
    assert decode_object(raw, MAX_DEPTH) == {"a": 2, "b": 0}


def test_joining_nothing_gives_an_empty_container() -> None:
    assert join_object({}) == b"{}"
    assert join_array([]) == b"[]"


def test_keys_are_escaped_when_joined() -> None:
    assert join_object({'a"\n': b"1"}) == b'{"a\\"\\n":1}'


@settings(deadline=None)
@given(st.dictionaries(text, json_values))
def test_splitting_and_joining_an_object_changes_nothing(document: dict[str, object]) -> None:
    raw = orjson.dumps(document)
    assert join_object(members(raw)) == raw
    assert decode_object(raw, 1_000) == orjson.loads(raw)


@settings(deadline=None)
@given(st.lists(json_values))
def test_splitting_and_joining_an_array_changes_nothing(document: list[object]) -> None:
    raw = orjson.dumps(document)
    assert join_array(elements(raw)) == raw


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_give_an_object_or_a_refusal(raw: bytes) -> None:
    try:
        expected = orjson.loads(raw)
    except orjson.JSONDecodeError:
        expected = None
    if isinstance(expected, dict):
        assert decode_object(raw, MAX_DEPTH) == expected
    else:
        assert refusal(raw).message


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), json_values), st.integers(1, 6))
def test_the_depth_limit_agrees_with_counting_levels(document: dict[str, object], max_depth: int) -> None:
    raw = orjson.dumps(document)
    if depth_of(document) <= max_depth:
        assert decode_object(raw, max_depth) == orjson.loads(raw)
    else:
        assert "nested too deeply" in refusal(raw, max_depth).message
