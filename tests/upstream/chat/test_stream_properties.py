"""What holds for every stream that a chat server may send, and for every cut of it."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.settings.upstreams import ChatProfile
from tests.fakes.chat_shapes import CALL_SHAPES, USAGE_SHAPES, chunk
from tests.fakes.chat_upstream import OPENAI, problems
from tests.upstream.chat.translated import check, decoded, events_of, frames_of, messages, stream_of, whole

TOOLS: Any = [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
USED = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
PROFILES = st.builds(
    ChatProfile,
    reasoning_as=st.sampled_from(["summary", "text", "hidden"]),
    think_tags=st.sampled_from(["off", "on"]),
)
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda text: {"reasoning_content": text}, TEXTS),
    st.builds(lambda text: {"refusal": text}, TEXTS),
    st.builds(
        lambda text, index: {"reasoning_details": [{"type": "reasoning.text", "text": text, "index": index}]},
        TEXTS,
        st.integers(0, 1),
    ),
)
CALLS = st.lists(
    st.builds(
        lambda name, text: {"name": name, "arguments": orjson.dumps({"input": text}).decode()},
        st.sampled_from(["f", "g"]),
        TEXTS,
    ),
    max_size=3,
).map(lambda calls: [{"id": f"call_{place}", **call} for place, call in enumerate(calls)])
REASONS = st.sampled_from(["stop", "tool_calls", "length", "content_filter", "error", "odd"])


@st.composite
def streams(draw: st.DrawFn) -> list[Any]:
    """Chunks of text, thoughts, refusals and calls, in any order and shape."""
    chunks = [chunk(delta) for delta in draw(st.lists(DELTAS, max_size=8))]
    shaped = CALL_SHAPES[draw(st.sampled_from(sorted(CALL_SHAPES)))](draw(CALLS))
    chunks += [chunk({"tool_calls": fragments}) for fragments in shaped]
    chunks += [chunk(delta) for delta in draw(st.lists(DELTAS, max_size=3))]
    return [*chunks, *USAGE_SHAPES[draw(st.sampled_from(sorted(USAGE_SHAPES)))](draw(REASONS), USED)]


@given(streams(), PROFILES)
def test_the_last_event_is_what_all_events_add_up_to(chunks: list[Any], profile: ChatProfile) -> None:
    """Rules 39 and 56: dense numbers, unique places, each item announced and done once, one end."""
    check(events_of(chunks, profile, tools=TOOLS))


@given(streams(), st.integers(0, 400), st.sampled_from([b"", b'data: {"error":{"message":"x"}}\n\n', b"data: {\n\n"]))
def test_a_stream_that_ends_anywhere_ends_once(chunks: list[Any], end: int, last: bytes) -> None:
    """Rules 46 and 48."""
    stream = stream_of(tools=TOOLS)
    raw = stream.feed(frames_of(chunks)[:end] + (b"\n\n" + last if last else b"")) + stream.finish()
    if stream.has_begun:
        check(decoded(raw))
    else:
        assert stream.fault is not None
        assert stream.fault.status == 502
        assert raw == b""


@given(streams(), PROFILES, st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(
    chunks: list[Any], profile: ChatProfile, data: st.DataObject
) -> None:
    raw = frames_of(chunks)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=20)))
    stream = stream_of(profile, tools=TOOLS)
    cut = b"".join([stream.feed(raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)])
    assert _told(decoded(cut + stream.finish())) == _told(events_of(chunks, profile, tools=TOOLS))


@given(st.lists(TEXTS, max_size=6))
def test_a_text_that_is_passed_on_at_once_is_the_same_text(texts: list[str]) -> None:
    """The short way of a delta leaves what the long way leaves."""
    chunks = [chunk({"content": text}) for text in texts]
    stream = stream_of()
    raw = stream.feed(frames_of(chunks[:1], is_done=False))
    for place, each in enumerate(chunks[1:], 1):
        frame = frames_of([each], is_done=False)
        found = stream.text_event(frame)
        assert (found is not None) == (texts[place] != "" and any(texts[:place]))
        if found is None:
            raw += stream.feed(frame)
        else:
            stream.text_was_sent(frame, found[1])
            raw += found[0]
    raw += stream.feed(frames_of([chunk({}, "stop")]))
    assert _told(decoded(raw)) == _told(events_of([*chunks, chunk({}, "stop")]))


@given(TEXTS, TEXTS, CALLS)
def test_a_whole_answer_is_what_its_stream_adds_up_to(thought: str, text: str, calls: list[Any]) -> None:
    message = {
        "reasoning": thought,
        "content": text,
        "tool_calls": [{"id": call["id"], "function": call} for call in calls],
    }
    chunks = [chunk({"reasoning": thought}), chunk({"content": text})]
    chunks += [chunk({"tool_calls": fragments}) for fragments in CALL_SHAPES["standard"](calls)]
    streamed = check(events_of([*chunks, chunk({}, "stop")], tools=TOOLS))
    made = whole(message, fields={"tools": TOOLS})
    assert _told(made["output"]) == _told(streamed["output"])


@given(streams(), PROFILES)
def test_what_was_answered_can_be_sent_back(chunks: list[Any], profile: ChatProfile) -> None:
    """Rule 51: every item that is made is an item that is taken, with its calls answered."""
    output = check(events_of(chunks, profile, tools=TOOLS))["output"]
    answers = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "ok"}
        for item in output
        if item["type"].endswith("_call")
    ]
    sent = messages([{"role": "user", "content": "Hi"}, *output, *answers], tools=TOOLS)
    assert [*problems({"messages": sent}, OPENAI)] == []


def _told(value: Any) -> Any:
    """The same without what is new each time: ids, times and seals."""
    if isinstance(value, list):
        return [_told(each) for each in value]
    if not isinstance(value, dict):
        return value
    new = {"id", "item_id", "created_at", "completed_at", "encrypted_content"}
    new |= {"call_id"} if str(value.get("call_id", "")).startswith("call_") and len(value["call_id"]) > 20 else set()
    return {name: _told(each) for name, each in value.items() if name not in new}
