"""Whatever is read in slices is what is read at once, and so is every refusal."""

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.wire import json_body
from app.wire.json import sliced_decoder, tokenizer
from app.wire.json.sliced_decoder import Elements, SlicedDecoder, decode, holds, is_json
from app.wire.json.tokenizer import DEEPEST, NotJsonError
from app.wire.requests.create import parse_compact_request, parse_count_request, parse_create_request
from app.wire.responses import response_object

MAX_DEPTH = 7
# The least that holds an escaped pair of surrogates.
SMALL = 16


@pytest.fixture(autouse=True)
def _tiny_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few bytes, so that a small document has many."""
    for module in (tokenizer, sliced_decoder):
        monkeypatch.setattr(module, "SLICE_BYTES", SMALL)


@pytest.fixture
def _all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "LARGE_BYTES", 0)
    monkeypatch.setattr(json_body, "HUGE_BYTES", 0)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["\u4e2d\U0001f600x" * 12, '\n\\"/' * 8, "a" * 70]
)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # More is a float.
    | st.just(10**25)
    | texts,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=25,
)
objects = st.dictionaries(texts | st.just("input"), documents, max_size=6)
spellings = st.builds(
    lambda ascii_only, indent, separators: {"ensure_ascii": ascii_only, "indent": indent, "separators": separators},
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
    st.sampled_from([(",", ":"), (" ,\n", " :\r")]),
)
SCARS = [b"", b",", b"[", b"]", b"{", b"}", b'"', b"\\", b":", b" ", b"0", b"-", b"NaN", b"1e999", b"tru", b'"a":1,']
SCARS += [b"\xff", b"\x80", b"\xe4", b"\x00", b"\x0b", b"\\u00", b"\\ud83d", b"\\ude00", b"\xef\xbb\xbf"]
scars = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 3),
        st.sampled_from(SCARS),
    ),
    max_size=3,
)


def spelled(document: object, spelling: dict[str, Any], wounds: list[tuple[float, int, bytes]]) -> bytes:
    raw = bytearray(json.dumps(document, **spelling).encode())
    for place, gone, put in wounds:
        start = int(place * len(raw))
        raw[start : start + gone] = put
    return bytes(raw)


def at_once(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return NotJsonError


def in_slices(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except NotJsonError:
        return NotJsonError


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, Elements) else value


@settings(max_examples=80, deadline=None)
@given(documents | objects, spellings, scars)
def test_a_document_in_slices_is_the_document(document: Any, spelling: Any, wounds: Any) -> None:
    raw = spelled(document, spelling, wounds)
    whole = at_once(raw)
    # By their spelling: True is not 1, and 1.0 neither.
    assert repr(in_slices(SlicedDecoder(raw, DEEPEST).document)) == repr(whole)
    assert is_json(raw) is (whole is not NotJsonError)


@settings(max_examples=80, deadline=None)
@given(objects, spellings, scars)
def test_so_are_the_members_of_an_object_and_each_is_as_it_was_sent(document: Any, spelling: Any, wounds: Any) -> None:
    raw = spelled(document, spelling, wounds)
    whole = at_once(raw)
    found = in_slices(lambda: SlicedDecoder(raw, DEEPEST).members([*document], "input"))
    if whole is NotJsonError or type(whole) is not dict:
        assert found is (None if whole is not NotJsonError else NotJsonError)
        return
    fields, sent = found
    assert {name: orjson.loads(bytes(value)) for name, value in sent.items()} == whole
    assert repr({name: plain(fields[name]) for name in fields if name in document}) == repr(
        {name: whole[name] for name in whole if name in document}
    )
    if isinstance(elements := fields.get("input"), Elements):
        assert [orjson.loads(bytes(each)) for each in elements.sent] == whole["input"]
        assert len(elements) == len(whole["input"])


@settings(max_examples=60, deadline=None)
@given(documents | objects, st.integers(1, 5))
def test_what_is_nested_too_deep_is_known_as_such(document: Any, max_depth: int) -> None:
    reader = SlicedDecoder(json.dumps(document).encode(), max_depth)
    reader.document()
    assert reader.is_too_deep is (isinstance(document, dict | list) and tokenizer.is_deeper(document, max_depth))


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_it_may_be_nested_as_deep_as_orjson_goes(depth: int, opening: bytes, closing: bytes) -> None:
    raw = opening * depth + b"1" + closing * depth
    assert is_json(raw) is (at_once(raw) is not NotJsonError) is (depth == DEEPEST)


def outcome(parse: Callable[[bytes, int], Any], raw: bytes) -> Any:
    try:
        request = parse(raw, MAX_DEPTH)
    except InvalidRequestError as error:
        return error.status, error.body()
    given = request.input
    fields = {name: value for name, value in request.fields.items() if not isinstance(value, json_body.Json)}
    sent = {name: bytes(value).strip() for name, value in request.members.items()}
    return {**fields, "input": plain(given)}, sent


parts = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text"]), "text": texts})
    | st.sampled_from([{}, {"type": None}, {"type": 3}, 1, None]),
    max_size=4,
)
items = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "cook"]), "content": texts | parts}
) | st.sampled_from(
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "function_call", "call_id": "", "name": "a", "arguments": "{}"},
        {"type": "reasoning", "summary": {}},
        {"type": "made_up", "deep": [[[[[[[]]]]]]]},
        [],
        7,
    ]
)
requests = st.fixed_dictionaries(
    {"model": st.sampled_from(["demo", "", None])},
    optional={
        "input": st.lists(items, max_size=5) | texts | st.none() | st.sampled_from([3, {}]),
        "tools": st.lists(st.sampled_from([{"type": "function", "name": "a"}, {"type": "function"}, []]), max_size=4),
        "temperature": st.sampled_from([1, 3]),
        "metadata": st.dictionaries(st.sampled_from("abc"), texts | st.just(1), max_size=3),
        "unknown": documents,
    },
)


@pytest.mark.parametrize("parse", [parse_create_request, parse_compact_request, parse_count_request])
@settings(max_examples=40, deadline=None)
@given(request=requests, spelling=spellings, wounds=st.just([]) | scars)
def test_a_large_request_is_read_and_refused_as_a_small_one(
    parse: Callable[[bytes, int], Any], request: Any, spelling: Any, wounds: Any
) -> None:
    raw = spelled(request, spelling, wounds)
    small = outcome(parse, raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "LARGE_BYTES", 0)
        patch.setattr(json_body, "HUGE_BYTES", 0)
        large = outcome(parse, raw)
    if isinstance(small[0], dict):
        # What nobody reads is not decoded.
        assert large[0] == {name: value for name, value in small[0].items() if name in large[0]}
        assert large[0].keys() >= small[0].keys() & {"model", "input", "tools", "temperature", "metadata"}
        assert large[1] == small[1]
    else:
        assert large == small


@pytest.mark.usefixtures("_all_large")
def test_a_fault_far_down_is_named_by_its_place() -> None:
    given: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * 3} for _ in range(400)]
    given[345]["content"] = [{"type": "input_text"}, {"type": 3}]
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_request(orjson.dumps({"model": "demo", "input": given}), MAX_DEPTH)
    assert caught.value.param == "input[345].content[1].type"


@pytest.mark.usefixtures("_all_large")
def test_what_is_no_object_is_refused_by_what_it_is() -> None:
    deep = b"[" * 2000 + b"]" * 2000
    for raw, message in (
        (b'[1, "%b"]' % (b"a" * 99), "expected an object, but got an array instead"),
        (b'"%b"' % (b"a" * 99), "expected an object, but got a string instead"),
        (deep, "nested too deeply"),
        (b'{"a":%b}' % deep, "nested too deeply"),
        (b"[" * 2000, "failed to parse JSON value"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            parse_create_request(raw, MAX_DEPTH)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["resp_1", "", None])},
        optional={
            "output": st.lists(st.sampled_from([{"type": "message", "id": "m" * 20}, {"type": None}, {}]), max_size=9)
            | st.sampled_from([None, [1], {}, [{"type": 3}]]),
            "status": st.sampled_from(["completed", "failed", None]),
            "usage": st.sampled_from([None, {"input_tokens": 1}]),
            "error": st.sampled_from([None, {"code": "x"}]),
            "store": st.sampled_from([False, True]),
            "conversation": st.none(),
            "previous_response_id": st.none(),
            "background": st.just(False),
            "x": documents,
        },
    ),
    spellings,
    st.just([]) | scars,
)
def test_a_large_response_is_read_as_a_small_one(told: Any, spelling: Any, wounds: Any) -> None:
    raw = spelled(told, spelling, wounds)
    small = response_object.read(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "LARGE_BYTES", 0)
        patch.setattr(json_body, "HUGE_BYTES", 0)
        large = response_object.read(raw)
    assert (small is None) is (large is None)
    if small is not None and large is not None:
        names = ("id", "status", "model", "usage", "error_code", "is_stateless", "names_conversation", "raw")
        assert [getattr(large, name) for name in names] == [getattr(small, name) for name in names]
        assert [each.strip() for each in large.output] == [each.strip() for each in small.output]
        one, other = [facts.as_asked(store=True, previous_response_id="resp_0") for facts in (large, small)]
        assert orjson.loads(one) == orjson.loads(other)


def test_of_a_member_that_is_repeated_the_last_counts() -> None:
    raw = b'{"input":[%b],"input":"text","a":{"b":1,"c":[[[]]],"b":2}}' % b",".join([b"[[[1]]]"] * 9)
    fields, sent = SlicedDecoder(raw, DEEPEST).members(("input", "a"), "input") or ({}, {})
    assert (fields, bytes(sent["input"])) == (orjson.loads(raw), b'"text"')


def test_elements_are_decoded_for_each_who_asks() -> None:
    elements = SlicedDecoder(b'{"input":[{"a":1},[[2,3,4,5,6,7,8,9]],3]}', DEEPEST).members(("input",), "input")
    assert elements is not None
    found = elements[0]["input"]
    assert isinstance(found, Elements)
    assert (list(found), found[-1], bool(found)) == ([{"a": 1}, [[2, 3, 4, 5, 6, 7, 8, 9]], 3], 3, True)
    next(iter(found))["a"] = 2
    assert found[0] == {"a": 1}


def test_a_word_is_found_also_where_two_steps_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced_decoder, "_SEARCHED_BYTES", 10)
    words = (b"pin", b"needle")
    for place in range(40):
        assert holds(memoryview(b" " * place + b"needle" + b" " * (40 - place)), words)
    assert not holds(memoryview(b"needl" * 9), words)


@pytest.mark.parametrize("text", ["a", "\u00e9", "\u4e2d", "\U0001f600", "\n", '"', "a\U0001f600\u00e9"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_string_longer_than_a_slice_is_one(text: str, ensure_ascii: bool) -> None:
    whole = text * 500
    assert decode(json.dumps([whole, whole], ensure_ascii=ensure_ascii).encode()) == [whole, whole]
