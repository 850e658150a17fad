import orjson
import pytest

from app.wire import sse
from app.wire.responses import stream_events

_UNDERSTOOD = sorted(stream_events.TERMINAL | {stream_events.CREATED, stream_events.ITEM_DONE, stream_events.ERROR})


def named(name: bytes, data: bytes = b"{}") -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"


def typed(kind: bytes, prefix: bytes = b"") -> bytes:
    return prefix + b'data: {"type":"' + kind + b'","sequence_number":4}\n\n'


@pytest.mark.parametrize("name", _UNDERSTOOD)
def test_the_event_field_says_the_kind(name: bytes) -> None:
    assert stream_events.kind(named(name)) == name
    assert stream_events.kind(named(name, b"not json")) == name
    assert stream_events.kind(named(name).replace(b"\n", b"\r\n")) == name


@pytest.mark.parametrize("name", _UNDERSTOOD)
@pytest.mark.parametrize("prefix", [b"", b"event: message\n", b"event: \n", b": a comment\n", b"id: 1\n"])
def test_without_a_name_of_the_api_the_type_in_the_data_says_it(name: bytes, prefix: bytes) -> None:
    assert stream_events.kind(typed(name, prefix)) == name


@pytest.mark.parametrize(
    "frame",
    [
        named(b"response.output_text.delta", b'{"delta":"response.completed"}'),
        named(b"response.output_text.delta", b'{"delta":"\\"type\\":\\"response.completed\\""}'),
        b'data: {"type":"response.output_text.delta","delta":"response.completed"}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"\\"response.completed\\""}\n\n',
        b'data: {"type":"response.output_text.delta","part":{"type":"response.completed"}}\n\n',
        named(b"response.completed.soon"),
        named(b"response.brand_new"),
        named(b"response.brand_new", b'{"type":"response.completed"}'),
        b'data: {"delta":"[DONE]"}\n\n',
        b'data: "response.completed"\n\n',
        b'data: ["response.completed"]\n\n',
        b'data: {"type":["response.completed"]}\n\n',
        b'data: {"type":"response.completed"\n\n',
        b': {"type":"response.completed"}\n\n',
        b": keep-alive\n\n",
        b"\n\n",
        b"",
    ],
)
def test_what_only_speaks_of_an_event_is_none(frame: bytes) -> None:
    assert stream_events.kind(frame) is None


@pytest.mark.parametrize("frame", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"event: done\ndata: [DONE] \n\n"])
def test_the_mark_of_an_end_is_known(frame: bytes) -> None:
    assert stream_events.kind(frame) == stream_events.DONE_MARK


def test_data_over_several_lines_is_read_as_one() -> None:
    frame = b'data: {"type":\ndata: "response.failed"}\n\n'
    assert stream_events.kind(frame) == b"response.failed"
    assert stream_events.payload(frame) == {"type": "response.failed"}


@pytest.mark.parametrize("data", [b"", b"[DONE]", b"[1]", b'"text"', b"null", b'{"a":NaN}', b'{"a"'])
def test_data_that_is_no_json_object_has_no_members(data: bytes) -> None:
    frame = named(b"error", data)
    assert stream_events.payload(frame) == {}
    assert stream_events.member(frame, "a") is None
    assert stream_events.sequence_number(frame) is None


def test_a_member_keeps_the_bytes_that_upstream_wrote() -> None:
    value = b'{ "n" : 1.50e1, "big":123456789012345678901, "s":"\\u00e9\\/" }'
    frame = named(b"response.created", b'{"a":1, "response":%b}' % value)
    assert stream_events.member(frame, "response") == value
    assert stream_events.member(frame, "item") is None


def test_a_member_that_is_null_is_there() -> None:
    assert stream_events.member(named(b"response.created", b'{"response":null}'), "response") == b"null"


def test_a_member_in_data_too_deep_to_be_split_is_not_there() -> None:
    deep = b"[" * 1010 + b"]" * 1010
    frame = named(b"response.completed", b'{"response":{"id":"resp_1","metadata":%b}}' % deep)
    assert stream_events.payload(frame)["response"]["id"] == "resp_1"
    assert stream_events.member(frame, "response") is None


@pytest.mark.parametrize(
    ("data", "number"),
    [(b'{"sequence_number":7}', 7), (b'{"sequence_number":0}', 0), (b'{"sequence_number":"7"}', None), (b"{}", None)],
)
def test_a_sequence_number_is_an_integer(data: bytes, number: int | None) -> None:
    assert stream_events.sequence_number(named(b"response.created", data)) == number


def test_an_event_under_another_id_says_the_same() -> None:
    frame = named(b"response.completed", b'{"type":"response.completed",\ndata: "response":{"id":"a","n":1.50}}')
    renamed = stream_events.renamed(frame, b'{"id":"a","n":1.50}', "resp_b")
    assert stream_events.kind(renamed) == b"response.completed"
    assert stream_events.member(renamed, "response") == b'{"id":"resp_b","n":1.50}'
    assert renamed.count(b"\n") == 3


def test_a_failure_of_our_own_carries_the_response_and_its_number() -> None:
    frame = stream_events.failed(b'{"id":"resp_1"}', 12)
    assert stream_events.kind(frame) == b"response.failed"
    assert stream_events.sequence_number(frame) == 12
    assert stream_events.member(frame, "response") == b'{"id":"resp_1"}'
    assert orjson.loads(sse.event_data(frame))["type"] == "response.failed"
