"""A whole response told as a stream: each event is one that the SDK knows, and its accumulator comes to the same."""

from typing import Any

import orjson
import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from app.wire import sse
from app.wire.responses.events_from_object import frames_of
from app.wire.responses.response_object import placeholder_response

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_TEXT = {"type": "output_text", "text": "Once\nupon", "annotations": [], "logprobs": []}
_ITEMS: list[dict[str, Any]] = [
    {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "x"},
    {"id": "rs_2", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "So."}]},
    {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [_TEXT]},
    {
        "id": "msg_2",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "refusal", "refusal": "No."}],
    },
    {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a":1}',
        "status": "completed",
    },
    {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "x"},
    {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "q", "queries": ["q"]},
    },
]


def whole(status: str = "completed", output: list[dict[str, Any]] | None = None) -> bytes:
    made = orjson.loads(placeholder_response({"model": "demo"}))
    items = _ITEMS if output is None else output
    return orjson.dumps({**made, "status": status, "output": items}, option=orjson.OPT_INDENT_2)


def events_of(body: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(sse.event_data(frame)) for frame in frames_of(body)]


def test_every_event_is_one_of_the_apis_in_its_order() -> None:
    body = whole()
    events = events_of(body)
    for event in events:
        _EVENT.validate_python(event, strict=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == orjson.loads(body)
    assert [frame.count(b"\n") for frame in frames_of(body)] == [3] * len(events)
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[1], kinds[-1]) == ("response.created", "response.in_progress", "response.completed")
    assert events[0]["response"]["output"] == []
    assert (events[0]["response"]["status"], events[0]["response"]["usage"]) == ("in_progress", None)


def test_who_adds_the_deltas_up_has_the_items() -> None:
    state = ResponseStreamState[None](input_tools=omit, text_format=omit)
    said: dict[str, str] = {}
    for event in events_of(whole()):
        state.handle_event(_EVENT.validate_python(event))
        if event["type"].endswith(".delta"):
            said[event["item_id"]] = said.get(event["item_id"], "") + event["delta"]
    assert said == {
        "rs_1": "Hm.",
        "rs_2": "So.",
        "msg_1": "Once\nupon",
        "msg_2": "No.",
        "fc_1": '{"a":1}',
        "ctc_1": "x",
    }
    assert state._completed_response is not None
    assert [item.to_dict()["id"] for item in state._completed_response.output] == [item["id"] for item in _ITEMS]


def test_the_text_of_reasoning_is_told_in_a_part_of_its_content() -> None:
    part = {"type": "reasoning_text", "text": "So."}
    item = {"id": "rs_2", "type": "reasoning", "summary": [], "content": [part], "encrypted_content": "x"}
    where = {"output_index": 0, "item_id": "rs_2", "content_index": 0}
    told = [
        {name: value for name, value in each.items() if name != "sequence_number"}
        for each in events_of(whole(output=[item]))
    ]
    assert told[2:-1] == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "x"},
        },
        {"type": "response.content_part.added", **where, "part": {"type": "reasoning_text", "text": ""}},
        {"type": "response.reasoning_text.delta", **where, "delta": "So."},
        {"type": "response.reasoning_text.done", **where, "text": "So."},
        {"type": "response.content_part.done", **where, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


@pytest.mark.parametrize(
    ("status", "last"),
    [("completed", "completed"), ("failed", "failed"), ("incomplete", "incomplete"), ("cancelled", "failed")],
)
def test_the_last_event_says_how_it_ended(status: str, last: str) -> None:
    assert events_of(whole(status, []))[-1]["type"] == f"response.{last}"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "content": "text"},
        {"type": "message", "content": [None, {"type": "output_text"}, {"type": "new"}]},
        {"type": "reasoning", "summary": None},
        {"type": "function_call"},
        {},
    ],
)
def test_an_item_of_another_make_is_told_as_far_as_it_is_known(item: dict[str, Any]) -> None:
    kinds = [event["type"] for event in events_of(whole(output=[item]))]
    assert {"response.output_item.added", "response.output_item.done"} <= set(kinds)


def test_what_is_no_response_is_not_told() -> None:
    assert frames_of(b'{"object":"list"}') == []
