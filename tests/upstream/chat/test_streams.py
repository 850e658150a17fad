"""Chunks become the events of the API, however a server cuts, numbers, repeats and ends them."""

import re
from typing import Any

import pytest

from app.settings.upstreams import ChatProfile
from tests.fakes.chat_shapes import CALL_SHAPES, USAGE_SHAPES, chunk
from tests.upstream.chat.translated import (
    UPSTREAM,
    check,
    decoded,
    events_of,
    frames_of,
    sealed_in,
    stream_of,
)

CALLS = [
    {"id": "call_a", "name": "weather", "arguments": '{"city":"Utrecht"}'},
    {"id": "call_b", "name": "time", "arguments": '{"zone":"CET"}'},
]
END = chunk({}, "stop")
TOOLS: Any = [{"type": "function", "name": name} for name in ("weather", "time")]


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_text_has_its_sequence_of_events() -> None:
    """Rule 12: with every member that clients look for."""
    events = events_of(
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "A"}), chunk({"content": "B"}), END]
    )
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    added, part, delta = events[2:5]
    assert (events[0]["response"]["status"], events[0]["response"]["output"]) == ("in_progress", [])
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    assert part["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert delta == {
        "type": "response.output_text.delta",
        "sequence_number": 4,
        "item_id": added["item"]["id"],
        "output_index": 0,
        "content_index": 0,
        "delta": "A",
        "logprobs": [],
    }
    assert check(events)["output"][0]["content"][0]["text"] == "AB"


@pytest.mark.parametrize(
    ("shown", "sequence"),
    [
        (
            "summary",
            [
                *("reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.delta"),
                *("reasoning_summary_text.done", "reasoning_summary_part.done"),
            ],
        ),
        (
            "text",
            [
                *("content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
                *("reasoning_text.done", "content_part.done"),
            ],
        ),
        ("hidden", []),
    ],
)
def test_reasoning_is_one_item_before_the_text(shown: Any, sequence: list[str]) -> None:
    """Rules 9, 10 and 14: one item, one part, one id, and the text in an item of its own."""
    chunks = [chunk({"reasoning": "H"}), chunk({"reasoning": "m"}), chunk({"content": "A"}), END]
    events = events_of(chunks, ChatProfile(reasoning_as=shown))
    check(events)
    start = 2
    end = start + len(sequence) + 2
    assert kinds(events)[start:end] == ["output_item.added", *sequence, "output_item.done"]
    assert len({event["item_id"] for event in events[start:end] if "item_id" in event}) == bool(sequence)
    assert sealed_in(events[end - 1]["item"]) == {"upstream": UPSTREAM, "text": "Hm", "field": "reasoning"}
    assert kinds(events)[end] == "output_item.added"


def test_empty_and_null_deltas_are_silent() -> None:
    """Rules 11 and 40."""
    nothing = {"content": None, "reasoning_content": "", "tool_calls": None, "refusal": None}
    fragments = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]
    more = [{"index": 0, "function": {"arguments": "{}"}}, {"index": 0, "function": {"arguments": ""}}]
    events = events_of([chunk(nothing), chunk({"tool_calls": fragments}), chunk({"tool_calls": more}), END])
    assert kinds(events)[2:6] == [
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done")
    ]
    assert all(event["delta"] for event in events if "delta" in event)
    check(events)


@pytest.mark.parametrize("shape", CALL_SHAPES)
def test_each_shape_of_tool_calls_makes_the_same_calls(shape: str) -> None:
    """Rules 13, 38 and 39: ids, names and arguments, each at a place of its own."""
    chunks = [chunk({"content": "I look."}), *(chunk({"tool_calls": each}) for each in CALL_SHAPES[shape](CALLS))]
    events = events_of([*chunks, chunk({}, "tool_calls")], tools=TOOLS)
    message, *others = check(events)["output"]
    assert message["type"] == "message"
    calls = [item for item in others if item["type"] != "reasoning"]
    assert [(call["name"], call["arguments"], call["status"]) for call in calls] == [
        (call["name"], call["arguments"], "completed") for call in CALLS
    ]
    if shape == "no_id":
        assert all(re.fullmatch(r"call_\w{30,}", call["call_id"]) for call in calls)
    else:
        assert [call["call_id"] for call in calls] == [call["id"] for call in CALLS]
    assert len({call["call_id"] for call in calls}) == 2
    places = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert places == [*range(1 + len(others))]


def test_a_name_that_is_repeated_in_each_fragment_is_taken_once() -> None:
    """Rule 38."""
    parts = ['{"a"', ":1}"]
    for head in ({"index": 0, "id": "a"}, {"id": "a"}, {}):
        fragments = [[{**head, "function": {"name": "weather", "arguments": part}}] for part in parts]
        [call] = check(events_of([*(chunk({"tool_calls": each}) for each in fragments), END], tools=TOOLS))["output"]
        assert (call["name"], call["arguments"]) == ("weather", '{"a":1}')


def test_a_call_of_the_old_form_is_a_call() -> None:
    chunks = [chunk({"function_call": {"name": "f", "arguments": "{}"}}), chunk({}, "function_call")]
    [call] = check(events_of(chunks))["output"]
    assert (call["type"], call["name"]) == ("function_call", "f")


def test_text_behind_calls_is_a_message_of_its_own() -> None:
    fragment = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    events = events_of([chunk({"content": "A"}), chunk({"tool_calls": [fragment]}), chunk({"content": "B"}), END])
    assert [item["type"] for item in check(events)["output"]] == ["message", "function_call", "message"]


def test_a_custom_call_streams_its_raw_text() -> None:
    """Rule 16."""
    fragment = {"index": 0, "id": "a", "function": {"name": "apply_patch", "arguments": '{"input":"*** x"}'}}
    tools = [{"type": "custom", "name": "apply_patch"}]
    events = events_of([chunk({"tool_calls": [fragment]}), END], tools=tools)
    assert kinds(events)[2:6] == [
        *("output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done")
    ]
    assert check(events)["output"][0]["input"] == "*** x"


def test_the_raw_text_of_a_custom_call_comes_as_it_is_written() -> None:
    arguments = '{"input": "a \\"quoted\\" \\ud83d\\ude00\\n\\\\"}'
    first = [{"index": 0, "id": "a", "function": {"name": "apply_patch", "arguments": ""}}]
    chunks = [first, *([{"index": 0, "function": {"arguments": each}}] for each in arguments)]
    tools = [{"type": "custom", "name": "apply_patch"}]
    events = events_of([*(chunk({"tool_calls": each}) for each in chunks), END], tools=tools)
    assert check(events)["output"][0]["input"] == 'a "quoted" \U0001f600\n\\'
    assert [event["delta"] for event in events if "delta" in event][-3:] == ["\U0001f600", "\n", "\\"]


def test_a_signature_is_kept_in_the_reasoning_before_its_call() -> None:
    """Rules 5 and 8."""
    extra = {"google": {"thought_signature": "c2ln"}}
    fragment = {"id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    output = check(events_of([chunk({"tool_calls": [fragment]}), END]))["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    assert sealed_in(output[0]) == {
        "upstream": UPSTREAM,
        "text": "",
        "field": "reasoning_content",
        "extras": {"a": extra},
    }
    assert "extra_content" not in output[1]


@pytest.mark.parametrize("shape", USAGE_SHAPES)
def test_each_shape_of_usage_is_read(shape: str) -> None:
    """Rule 43: the last that is told counts, and none is estimated."""
    used = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    usage = check(events_of([chunk({"content": "A"}), *USAGE_SHAPES[shape]("stop", used)]))["usage"]
    if shape == "none":
        assert usage["estimated"] is True
    else:
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (10, 4, 14)
        assert "estimated" not in usage


@pytest.mark.parametrize(
    ("reason", "kind", "detail"),
    [
        ("length", "response.incomplete", "max_output_tokens"),
        ("content_filter", "response.incomplete", "content_filter"),
    ],
)
def test_an_early_end_is_an_event_of_its_own(reason: str, kind: str, detail: str) -> None:
    """Rule 41."""
    events = events_of([chunk({"content": "A"}), chunk({}, reason)])
    assert events[-1]["type"] == kind
    last = check(events)
    assert last["incomplete_details"] == {"reason": detail}
    assert last["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("more", "is_done"),
    [
        ([{"error": {"message": "Down", "code": 502}}], True),
        ([{"object": "error", "message": "Down"}], True),
        ([chunk({}, "error")], True),
        ([], False),
    ],
    ids=["error", "vllm", "reason", "eof"],
)
def test_an_error_amid_a_stream_fails_it_once(more: list[Any], is_done: bool) -> None:
    """Rules 46 and 48: what there is stays, as incomplete, and nothing says that it is complete."""
    events = events_of([chunk({"content": "A"}), *more], is_done=is_done)
    last = check(events)
    assert (last["status"], last["output"][0]["status"]) == ("failed", "incomplete")
    assert last["error"]["code"] == "server_error"


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b'data: {"error":{"message":"Down","code":503}}\n\n', 503),
        (b': OPENROUTER PROCESSING\n\ndata: {"error":{"message":"Slow","code":429}}\n\n', 429),
        (b'event: error\ndata: {"message":"No","type":"invalid_request_error"}\n\n', 400),
        (b'data: {"error":{"message":"the prompt is too long"}}\n\n', 400),
        (b"data: [DONE]\n\n", 502),
        (b"data: nonsense\n\n", 502),
    ],
)
def test_an_error_in_the_first_place_is_no_stream(first: bytes, status: int) -> None:
    """Rule 46: so that another account can be asked."""
    stream = stream_of()
    assert stream.feed(first) + stream.finish() == b""
    assert not stream.has_begun
    assert stream.fault is not None
    assert stream.fault.status == status


def test_an_end_that_is_told_without_a_reason_is_one() -> None:
    assert check(events_of([chunk({"content": "A"})]))["status"] == "completed"


def test_comments_and_azures_first_chunk_say_nothing() -> None:
    stream = stream_of()
    filtered = {"choices": [], "model": "", "prompt_filter_results": []}
    raw = stream.feed(b": PROCESSING\n\n" + frames_of([filtered, chunk({"content": "A"}), END])) + stream.finish()
    assert check(decoded(raw))["model"] == "m-1"


@pytest.mark.parametrize(
    ("mode", "text", "thought", "said"),
    [
        ("on", "<think>Hm.</think>\nA", "Hm.", "A"),
        ("on", "  <think>Hm.</think>A <think>quoted</think>", "Hm.", "A <think>quoted</think>"),
        ("on", "A <think>quoted</think>", "", "A <think>quoted</think>"),
        ("on", "<think>Hm.", "Hm.", ""),
        ("on", "<thin", "", "<thin"),
        ("starts_open", "Hm.</think>A", "Hm.", "A"),
        ("off", "<think>Hm.</think>A", "", "<think>Hm.</think>A"),
    ],
)
def test_tags_begin_reasoning_only_in_front_and_whatever_the_cuts(
    mode: Any, text: str, thought: str, said: str
) -> None:
    """Rule 53."""
    for size in (1, 2, 3, 5, 8, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        events = events_of([*(chunk({"content": piece}) for piece in pieces), END], ChatProfile(think_tags=mode))
        output = check(events)["output"]
        found = {item["type"]: item for item in output}
        assert (
            [part["text"] for part in found["reasoning"]["summary"]] == [thought]
            if thought
            else "reasoning" not in found
        )
        assert found["message"]["content"][0]["text"] == said


def test_fragments_of_one_call_in_one_chunk_are_each_told_once() -> None:
    parts = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a"'}}]
    parts += [{"index": 0, "function": {"arguments": each}} for each in (":", "1", "}")]
    events = events_of([chunk({"tool_calls": parts}), END])
    assert [event["delta"] for event in events if "delta" in event] == ['{"a"', ":", "1", "}"]
    assert check(events)["output"][0]["arguments"] == '{"a":1}'


def test_zeros_that_follow_the_usage_take_nothing_of_it_back() -> None:
    used, zeros = {"prompt_tokens": 10, "completion_tokens": 4}, {"prompt_tokens": 0, "completion_tokens": 0}
    usage = check(events_of([chunk({"content": "A"}, usage=used), chunk({}, "stop", usage=zeros)]))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (10, 4)
    failed = check(events_of([chunk({"content": "A"}, usage=zeros), {"error": "Down"}]))
    assert failed["usage"] is None
