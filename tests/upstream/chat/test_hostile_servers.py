"""Whatever JSON stands where something else belongs, an answer is a whole stream of events, a response, or an error."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings.upstreams import ChatProfile
from app.upstream.chat.call_fragments import CallFragments
from tests.fakes.chat_shapes import CALL_SHAPES, USAGE_SHAPES, chunk
from tests.upstream.chat.translated import DONE, check, decoded, events_of, frames_of, stream_of

TOOLS: Any = [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]
USED = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
    "cost": 0.5,
}
LOGPROB = {"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": [{"token": "B", "logprob": -2, "bytes": None}]}
CITED = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "X", "start_index": 0, "end_index": 1}}
DETAIL = {"type": "reasoning.text", "text": "Hm.", "index": 0, "signature": "s"}
CALLS = [{"id": "a", "name": "f", "arguments": '{"a":1}'}, {"id": "b", "name": "g", "arguments": '{"input":"x"}'}]
MESSAGE = {
    "role": "assistant",
    "reasoning_details": [DETAIL],
    "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "A"}],
    "refusal": "No.",
    "annotations": [CITED],
    "tool_calls": [
        {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}, "extra_content": {"google": {"signature": "s"}}}
    ],
}
STREAMS: list[list[Any]] = [
    [chunk({"reasoning": "Hm."}), chunk({"content": "A"}), *USAGE_SHAPES["chunk"]("stop", USED)],  # type: ignore[arg-type]  # details are objects
    [{**chunk({"content": "A"}), "choices": [{"delta": {"content": "A"}, "logprobs": {"content": [LOGPROB]}}]}],
    [chunk({"content": "A", "annotations": [CITED]}), chunk({"refusal": "No."}), chunk({}, "length")],
    [chunk({"reasoning_details": [DETAIL]}), chunk({"function_call": {"name": "g", "arguments": "{"}})],
    [chunk(MESSAGE), {"error": {"message": "Slow", "code": 429, "metadata": {"raw": "{}"}}}],
    [*(chunk({"tool_calls": each}) for each in CALL_SHAPES["standard"](CALLS)), chunk({}, "tool_calls")],
    [*(chunk({"tool_calls": each}) for each in CALL_SHAPES["no_index"](CALLS)), chunk({}, "content_filter")],
    [{"object": "error", "message": {"detail": [{"type": "missing", "loc": ["body", "x", 0], "msg": "No."}]}}],
]
WHOLES: list[Any] = [
    {
        "created": 5,
        "model": "m-1",
        "service_tier": "default",
        "choices": [{"message": MESSAGE, "logprobs": {"content": [LOGPROB]}, "finish_reason": "stop"}],
        "usage": USED,
        "x_groq": {"usage": USED},
    },
    {"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}]},
    [{"error": {"code": 429, "message": "Slow", "status": "RESOURCE_EXHAUSTED", "details": [{"reason": "x"}]}}],
    {"detail": [{"loc": ["body", "messages", 0], "msg": "No."}]},
]
PROFILES = st.builds(
    ChatProfile,
    reasoning_as=st.sampled_from(["summary", "text", "hidden"]),
    think_tags=st.sampled_from(["off", "on", "starts_open"]),
    logprobs=st.just(True),
)


def nested(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"error": value}
    return value


NAMES = st.sampled_from(["error", "message", "content", "text", "type", "id", "index", "name", "code", "choices"])
VALUES = st.one_of(
    st.sampled_from([nested(60), nested(300), nested(900), 2**31, 2**53, 2**63, 2**64, 10**400, -1, 1e308, True, ""]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in this one."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from places(member, (*path, name))


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of this value with another at that place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else [*value]
    copy[path[0]] = with_value(copy[path[0]], path[1:], new)
    return copy


@st.composite
def mutated(draw: st.DrawFn, valid: list[Any]) -> Any:
    """One of these values, with arbitrary JSON at arbitrary places."""
    value = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 3))):
        value = with_value(value, draw(st.sampled_from([*places(value)])), draw(VALUES))
    return value


def body_of(value: Any) -> bytes:
    """JSON as a careless server writes it: half a surrogate pair may stand in it, and any number."""
    return json.dumps(value).encode()


def usage_is_whole(usage: Any) -> bool:
    counts = [usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]]
    counts += [*usage["input_tokens_details"].values(), *usage["output_tokens_details"].values()]
    return all(type(count) is int and 0 <= count < 2**55 for count in counts)


@given(mutated(STREAMS), PROFILES, st.booleans())
def test_whatever_stands_in_a_chunk_the_events_are_a_whole_stream(
    chunks: Any, profile: ChatProfile, is_done: bool
) -> None:
    given = chunks if isinstance(chunks, list) else [chunks]
    stream = stream_of(profile, tools=TOOLS, top_logprobs=1)
    raw = stream.feed(b"".join([b"data: " + body_of(each) + b"\n\n" for each in given]) + (DONE if is_done else b""))
    raw += stream.finish()
    assert stream.is_over
    if stream.has_begun:
        last = check(decoded(raw))
        assert last["usage"] is None or usage_is_whole(last["usage"])
        assert 0 < last["created_at"] < 2**40
    else:
        assert raw == b""
        assert stream.fault is not None
        assert 400 <= stream.fault.status < 600


@given(mutated(WHOLES), PROFILES)
def test_whatever_stands_in_a_whole_answer_it_is_a_response_or_an_error(body: Any, profile: ChatProfile) -> None:
    made = orjson.loads(stream_of(profile, is_silent=True, tools=TOOLS, top_logprobs=1).whole(body_of(body)))
    if "error" in made and "object" not in made:
        assert made["error"].keys() == {"message", "type", "param", "code", "status"}
        assert 400 <= made["error"]["status"] < 600
    else:
        assert made["status"] in {"completed", "incomplete", "failed"}
        assert (made["error"] is None) == (made["status"] != "failed")
        assert made["usage"] is None or usage_is_whole(made["usage"])
        assert {item["type"] for item in made["output"]} <= {
            *("message", "reasoning", "function_call", "custom_tool_call")
        }


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"message": "Slow", "code": 429}, "rate_limit_exceeded", "Slow"),
        ({"message": "Slow", "code": "resource_exhausted"}, "rate_limit_exceeded", "Slow (resource_exhausted)"),
        ({"message": "Pay", "code": "insufficient_quota"}, "server_error", "Pay (insufficient_quota)"),
        ({"message": "Bad", "code": 400}, "invalid_prompt", "Bad"),
        ("Down", "server_error", "Down"),
        (["Down"], "server_error", "Down"),
        (7, "server_error", "The upstream's stream reported an error."),
    ],
)
def test_an_error_amid_a_stream_has_a_code_that_clients_know(error: Any, code: str, message: str) -> None:
    """Codex waits for a limit, and for nothing else."""
    last = check(events_of([chunk({"content": "A"}), {"error": error}]))
    assert last["error"] == {"code": code, "message": message}


@pytest.mark.parametrize("data", [b"7", b'"Down"', b"[]", b'["Down"]', b"null", b'{"message":"Down"}', b"{", b"\xff"])
def test_the_event_of_an_error_is_one_whatever_its_data(data: bytes) -> None:
    stream = stream_of()
    raw = stream.feed(frames_of([chunk({"content": "A"})], is_done=False) + b"event: error\ndata: " + data + b"\n\n")
    assert check(decoded(raw + stream.finish()))["error"]["code"] == "server_error"


def test_values_of_another_type_say_nothing() -> None:
    odd: Any = {
        "annotations": 7,
        "tool_calls": {"a": 1},
        "refusal": ["No"],
        "reasoning_details": "x",
        "function_call": 1,
    }
    others: list[Any] = [7, {}, "x", [None], ["x"], [[]]]
    chunks = [{**chunk(odd), "choices": value} for value in others]
    chunks += [chunk(odd), chunk("x"), chunk([1]), chunk({"content": "A"}, ["stop"])]  # type: ignore[arg-type]
    last = check(
        events_of(
            [*chunks, {"choices": [{"logprobs": [1], "finish_reason": "stop"}]}],
            top_logprobs=1,
            profile=ChatProfile(logprobs=True),
        )
    )
    assert [part["text"] for part in last["output"][0]["content"]] == ["A"]
    assert last["status"] == "completed"


def test_what_is_nested_without_end_fails_the_stream() -> None:
    deep = b'{"choices":[{"delta":{"annotations":' + b"[" * 300 + b"]" * 300 + b"}}]}"
    stream = stream_of()
    raw = stream.feed(frames_of([chunk({"content": "A"})], is_done=False) + b"data: " + deep + b"\n\n")
    assert check(decoded(raw))["error"]["message"] == "Upstream's answer is not JSON that can be read."


def test_a_stream_without_a_choice_is_a_fault() -> None:
    """As an answer without one is: so that another account can be asked."""
    stream = stream_of()
    assert stream.feed(frames_of([{"choices": []}, {"choices": [], "usage": {"prompt_tokens": 1}}])) == b""
    assert stream.fault is not None
    assert (stream.fault.status, stream.fault.message) == (502, "Upstream's completion has no choices.")


def test_fragments_are_read_one_at_a_time() -> None:
    fragments = CallFragments()
    given = [{"index": place, "function": {"name": "f", "arguments": "{}"}} for place in range(5000)]
    read = fragments.feed(given)
    next(read)
    assert len(fragments.calls) == 1
    assert len([*read]) == 4999
    assert len(fragments.calls) == 5000


@pytest.mark.parametrize("name", [None, "", 7, ["f"]])
def test_a_call_without_a_name_fails_the_response(name: Any) -> None:
    fragment = {"index": 0, "id": "a", "function": {"name": name, "arguments": "{}"}}
    last = check(events_of([chunk({"tool_calls": [fragment]}), chunk({}, "tool_calls")]))
    assert last["error"] == {"code": "server_error", "message": "The model called a tool without a name."}
    assert last["output"] == []


def test_a_name_behind_arguments_of_any_length_costs_no_try_of_them() -> None:
    """Each try reads all of them: a server could have the gateway do so for every fragment."""
    fragments = CallFragments()
    for part in ('{"a":"' + "x" * 70_000 + '"}', "}", "}"):
        assert len([*fragments.feed([{"function": {"name": "f", "arguments": part}}])]) == 1
    assert [len(call.arguments) for call in fragments.calls] == [3]
