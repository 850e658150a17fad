"""The messages of WebSocket mode, both ways."""

from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError, OverloadedError, UpstreamRefusedError
from app.wire import websocket_messages
from tests.fakes.streams import frame


def message(**members: Any) -> bytes:
    return orjson.dumps({"type": "response.create", "model": "demo", "input": "Hello.", **members})


def test_the_envelope_is_read_and_the_rest_is_left_for_its_turn() -> None:
    read = websocket_messages.read_message(message(stream_id="a_B-1.", previous_response_id="resp_1", input=5), 64)
    assert (read.type, read.stream_id, read.previous_response_id) == ("response.create", "a_B-1.", "resp_1")
    assert websocket_messages.unexpected_message_error(read) is None
    read = websocket_messages.read_message(message(stream_id=None, previous_response_id=[1]), 64)
    assert (read.stream_id, read.previous_response_id) == (None, None)


def test_a_receipt_is_told_from_what_asks_for_something() -> None:
    receipt = orjson.dumps({"type": "response.processed", "response_id": "resp_1"})
    assert websocket_messages.read_message(receipt, 64).is_receipt
    assert not websocket_messages.read_message(message(), 64).is_receipt


def test_a_call_is_a_create_body_whose_answer_streams() -> None:
    raw = b'{"type":"response.create","stream_id":"a","model":"demo","x":1.10,"input": "\\u00e9","stream":false}'
    request = websocket_messages.read_call(raw, 64).request
    assert request.stream
    assert {name: bytes(value) for name, value in request.members.items()} == {
        "model": b'"demo"',
        "x": b"1.10",
        "input": b'"\\u00e9"',
        "stream": b"true",
    }
    assert request.fields.keys() == request.members.keys()


@pytest.mark.parametrize(
    ("members", "generates"),
    [
        ({}, True),
        ({"generate": None}, True),
        ({"generate": True}, True),
        ({"generate": False}, False),
        ({"prompt_cache_options": {"prewarm": True}}, False),
        ({"prompt_cache_options": {"prewarm": False}}, True),
        ({"prompt_cache_options": None}, True),
    ],
)
def test_a_warm_up_is_told_by_either_of_two_members(members: dict[str, Any], generates: bool) -> None:
    assert websocket_messages.read_call(message(**members), 64).generates is generates


def test_a_warm_up_needs_no_input_but_what_it_has_is_checked() -> None:
    raw = b'{"type":"response.create","model":"demo","generate":false}'
    assert websocket_messages.read_call(raw, 64).request.input is None
    with pytest.raises(InvalidRequestError, match="'input'"):
        websocket_messages.read_call(message(generate=False, input=1), 64)


def test_a_body_too_deep_is_refused_in_its_turn() -> None:
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        websocket_messages.read_call(message(extra=[[[[]]]]), 4)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'event: x\ndata: {"type":"x"}\n\n', b'{"type":"x"}'),
        (b'data: {"type":\r\ndata: "x"}\r\n\r\n', b'{"type":\n"x"}'),
        ('data: {"t":"\u2028é"}\n\n'.encode(), '{"t":"\u2028é"}'.encode()),
        (b'data: {"t":"\xff"}\n\n', '{"t":"\ufffd"}'.encode()),
        (b": keep-alive\n\n", None),
        (b"data: [DONE]\n\n", None),
        (b"event: x\n\n", None),
        (b"", None),
    ],
)
def test_an_event_is_its_data(sent: bytes, told: bytes | None) -> None:
    assert websocket_messages.of_frame(sent, None) == told


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"type":"x"}', b'{"stream_id":"a","type":"x"}'),
        (b' { "type":"x"}', b'{"stream_id":"a", "type":"x"}'),
        (b"{}", b'{"stream_id":"a"}'),
        (b"{ }", b'{"stream_id":"a" }'),
    ],
)
def test_a_named_lane_is_written_before_the_rest(data: bytes, told: bytes) -> None:
    assert websocket_messages.of_frame(b"data: " + data + b"\n\n", "a") == told


def error_of(raw: bytes | None) -> dict[str, Any]:
    assert raw is not None
    event = orjson.loads(raw)
    assert isinstance(event, dict)
    return event


def test_an_error_has_what_its_answer_over_http_has() -> None:
    error = OverloadedError("Full.", headers={"retry-after": "2"})
    assert error_of(websocket_messages.of_error(error, "a")) == {
        "stream_id": "a",
        "type": "error",
        "status": 503,
        "error": {
            "message": "Full.",
            "type": "service_unavailable_error",
            "param": None,
            "code": "server_is_overloaded",
            "headers": {"retry-after": "2", "x-antiphon-error-source": "gateway"},
        },
    }


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error":"No."}', b'{"detail":"No."}', b""])
def test_an_answer_of_upstreams_in_no_known_shape_is_told_in_ours(body: bytes) -> None:
    event = error_of(websocket_messages.of_error(UpstreamRefusedError(400, body, {}), None))
    assert (event["status"], event["error"]["code"]) == (400, "upstream_error")


def test_upstreams_own_error_is_relayed() -> None:
    own = {"message": "No.", "type": "x", "param": "y", "code": None, "more": 1}
    error = UpstreamRefusedError(422, orjson.dumps({"error": own}), {})
    told = {**own, "headers": {"x-antiphon-error-source": "upstream"}}
    assert error_of(websocket_messages.of_error(error, None)) == {"type": "error", "status": 422, "error": told}


@pytest.mark.parametrize(
    ("code", "kind", "status"), [("rate_limit_exceeded", "rate_limit_error", 429), (None, "server_error", 500)]
)
def test_an_error_event_is_nested(code: str | None, kind: str, status: int) -> None:
    event = error_of(websocket_messages.of_frame(frame("error", 3, code=code, message="No.", param=None), None))
    error = {"code": code, "message": "No.", "param": None, "type": kind}
    assert event == {"type": "error", "sequence_number": 3, "status": status, "error": error}


def test_one_that_is_nested_already_stays_as_it_is() -> None:
    sent = frame("error", 3, error={"message": "No."})
    assert websocket_messages.of_frame(sent, None) == sent.split(b"data: ")[1].strip()


def test_steering_is_declined_with_what_was_sent() -> None:
    raw = orjson.dumps({"type": "response.steer", "input": [1.0], "previous_response_id": "resp_1", "stream_id": "a"})
    event = error_of(websocket_messages.unexpected_message_error(websocket_messages.read_message(raw, 64)))
    assert (event["type"], event["stream_id"]) == ("response.steer.failed", "a")
    assert event["steer"] == {"input": [1.0], "previous_response_id": "resp_1"}
    assert event["error"].keys() == {"code", "message", "type"}
