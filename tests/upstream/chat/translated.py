"""Translate requests and answers as the transport does, without a network; seals are plain text here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from app.settings.upstreams import ChatProfile
from app.state.items.compacted import SEAL
from app.upstream.chat.reasoning import opened
from app.upstream.chat.request import ChatRequest, chat_request
from app.upstream.chat.stream import ChatStream
from app.wire import sse
from app.wire.sse import FrameSplitter

MAX_BYTES = 1_000_000
DONE = b"data: [DONE]\n\n"
UPSTREAM = "one"


def seal(content: bytes) -> str:
    return SEAL + content.hex()


def unseal(sealed: str) -> bytes:
    return bytes.fromhex(sealed.removeprefix(SEAL))


def sealed_in(item: Mapping[str, Any]) -> Any:
    """What is sealed in a reasoning item."""
    return orjson.loads(unseal(item["encrypted_content"]))


def request(profile: ChatProfile | None = None, upstream: str = UPSTREAM, **fields: Any) -> ChatRequest:
    """The chat request of these parameters."""
    fields = {"model": "m", "input": "Hi", **fields}
    return chat_request(fields, profile or ChatProfile(), lambda item: opened(item, upstream=upstream, open_=unseal))


def body(profile: ChatProfile | None = None, **fields: Any) -> dict[str, Any]:
    """The body of that request."""
    made: dict[str, Any] = orjson.loads(request(profile, **fields).body)
    return made


def messages(items: str | Sequence[Mapping[str, Any]], profile: ChatProfile | None = None, **more: Any) -> list[Any]:
    """The messages of these items."""
    found: list[Any] = body(profile, input=items, **more)["messages"]
    return found


def stream_of(profile: ChatProfile | None = None, *, is_silent: bool = False, **fields: Any) -> ChatStream:
    """What reads the answer to these parameters."""
    profile = profile or ChatProfile()
    return ChatStream(request(profile, **fields), profile, UPSTREAM, seal, MAX_BYTES, is_silent=is_silent)


def frames_of(chunks: Iterable[Any], *, is_done: bool = True) -> bytes:
    """The bytes of a chat stream."""
    return b"".join([b"data: " + orjson.dumps(each) + b"\n\n" for each in chunks]) + (DONE if is_done else b"")


def events_of(
    chunks: Iterable[Any], profile: ChatProfile | None = None, *, is_done: bool = True, **fields: Any
) -> list[Any]:
    """The events that these chunks become."""
    stream = stream_of(profile, **fields)
    raw = stream.feed(frames_of(chunks, is_done=is_done)) + stream.finish()
    return decoded(raw)


def decoded(raw: bytes) -> list[Any]:
    """The data of each event; its name is its type."""
    frames = FrameSplitter(MAX_BYTES).feed(raw)
    events = [orjson.loads(sse.event_data(frame)) for frame in frames]
    assert [sse.event_name(frame).decode() for frame in frames] == [event["type"] for event in events]
    return events


def whole(
    message: Mapping[str, Any], reason: str | None = "stop", *, profile: ChatProfile | None = None, **more: Any
) -> Any:
    """The response that a completion with this message becomes; `fields` are its request's."""
    fields = more.pop("fields", {})
    completion = {"model": "m-1", "created": 5, "choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    return orjson.loads(stream_of(profile, is_silent=True, **fields).whole(orjson.dumps({**completion, **more})))


def folded(events: Sequence[Any]) -> list[Any]:
    """The output that the events of a stream add up to, by their deltas and the ends of their items."""
    output: dict[int, Any] = {}
    texts: dict[tuple[Any, ...], str] = {}
    for event in events:
        kind, place = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            assert place not in output
            output[place] = None
        elif kind.endswith(".delta"):
            key = (place, event.get("content_index"), event.get("summary_index"))
            texts[key] = texts.get(key, "") + event["delta"]
        elif kind == "response.output_item.done":
            assert output[place] is None
            output[place] = event["item"]
    for (place, content, summary), text in texts.items():
        item = output[place]
        if content is not None:
            part = item["content"][content]
            assert part.get("text", part.get("refusal")) == text
        elif summary is not None:
            assert item["summary"][summary]["text"] == text
        else:
            assert item.get("arguments", item.get("input")) == text
    return [output[place] for place in sorted(output)]


def check(events: Sequence[Any]) -> Any:
    """Check what holds for every stream; return the response that it ends with."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    ends = {"response.completed", "response.incomplete", "response.failed"}
    assert [event["type"] for event in events if event["type"] in ends] == [events[-1]["type"]]
    last = events[-1]["response"]
    assert last["id"] == events[0]["response"]["id"]
    assert last["model"] == events[0]["response"]["model"]
    assert f"response.{last['status']}" == events[-1]["type"]
    assert folded(events) == last["output"]
    parts = [event["type"] for event in events if event["type"].endswith((".added", "_part.done", "item.done"))]
    for name in ("output_item", "content_part", "reasoning_summary_part"):
        assert parts.count(f"response.{name}.added") == parts.count(f"response.{name}.done")
    return last
