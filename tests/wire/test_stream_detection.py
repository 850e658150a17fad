import pytest

from app.wire.responses.stream_detection import first_substantive_frame, is_event_stream, is_failure

LABELS = [b"", b"text/event-stream", b"Text/Event-Stream; charset=utf-8", b"application/json", b"text/plain"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    "first",
    [
        *(b"event: response.created\n", b"data: {}", b": ping\n\n", b"id: 1\n", b"retry: 5\n", b"\n\ndata: {}"),
        *(b"e", b"da", b"\xef\xbb\xbfevent: x", b"\r\nevent: x"),
    ],
)
def test_what_begins_as_an_event_is_a_stream_under_any_label(first: bytes, label: bytes) -> None:
    assert is_event_stream(first, label)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("first", [b'{"id":"resp_1"', b"[", b' \n{"error":{}}', b"\xef\xbb\xbf{"])
def test_what_begins_as_json_is_whole_under_any_label(first: bytes, label: bytes) -> None:
    assert not is_event_stream(first, label)


@pytest.mark.parametrize("first", [b"\n", b"  ", b"\xef\xbb\xbf", b"hello"])
def test_the_label_decides_where_the_bytes_say_neither(first: bytes) -> None:
    assert is_event_stream(first, b"text/event-stream")
    assert not is_event_stream(first, b"application/json")


_CREATED = b'event: response.created\ndata: {"type":"response.created"}\n\n'
_BEGUN = b'data: {"type":"response.in_progress"}\n\n'
_ITEM = b'event: response.output_item.added\ndata: {"type":"response.output_item.added"}\n\n'


@pytest.mark.parametrize(
    "chunk", [_CREATED, _CREATED + _BEGUN, b": ping\n\n" + _CREATED, _CREATED + b"event: response.in_prog"]
)
def test_a_stream_that_only_announces_a_response_has_not_opened(chunk: bytes) -> None:
    if not chunk.endswith(b"prog"):
        assert first_substantive_frame(chunk) is None
    assert not is_failure(first_substantive_frame(chunk) or b"")


def test_a_stream_opens_with_the_first_event_that_says_more() -> None:
    assert first_substantive_frame(_CREATED + _BEGUN + _ITEM + _CREATED) == _ITEM.rstrip(b"\n")


@pytest.mark.parametrize(
    "frame",
    [
        *(b"event: error\ndata: {}", b"event: response.failed\ndata: {}", b'data: {"type":"error"}'),
        *(b'data: {"type": "response.failed"}', b'data: {"error":{"message":"No."}}'),
    ],
)
def test_an_event_that_says_that_something_failed_is_known_by_its_beginning(frame: bytes) -> None:
    assert is_failure(frame)
    assert first_substantive_frame(_CREATED + frame + b"\n\n") == frame
