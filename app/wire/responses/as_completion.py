"""Write the events of a response as the chunks of a chat completion, and a whole response as a whole one."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from app.wire.sse import DONE

_DELTAS = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.reasoning_text.delta": "reasoning_content",
}
# The type of a call there, and the name of its member that grows.
_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
_CALL_DELTAS = {
    "response.function_call_arguments.delta": ("function", "arguments"),
    "response.custom_tool_call_input.delta": ("custom", "input"),
}
_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.done", "response.failed", "error"})
_LENGTH = "max_output_tokens"


class CompletionChunks:
    """Write one stream; `includes_usage` adds a chunk with the usage alone.

    What a server says only when an item, or the response, is done is written then: nothing is lost.
    """

    def __init__(self, *, includes_usage: bool) -> None:
        self._includes_usage = includes_usage
        self._head: dict[str, Any] = {"object": "chat.completion.chunk"}
        self._calls: dict[Any, int] = {}
        self._grown: set[int] = set()
        self._has_text = False

    def frames_of(self, event: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the frames that this event becomes, most often one; with the last event comes the mark of the end."""
        kind, item = event.get("type"), event.get("item")
        if kind == "response.created" and isinstance(event.get("response"), dict):
            self._head = _head(event["response"], "chat.completion.chunk")
            yield self._frame({"role": "assistant", "content": ""})
        elif kind in _DELTAS:
            self._has_text = True
            yield self._frame({_DELTAS[kind]: event.get("delta")})
        elif kind in _CALL_DELTAS and (place := self._calls.get(_place(event))) is not None:
            self._grown.add(place)
            group, name = _CALL_DELTAS[kind]
            yield self._frame({"tool_calls": [{"index": place, group: {name: event.get("delta")}}]})
        elif kind in _ITEMS and isinstance(item, dict) and item.get("type") in _CALLS:
            yield from self._call(event, item)
        elif kind in _ENDS:
            yield from self._end(event)

    def _call(self, event: Mapping[str, Any], item: Mapping[str, Any]) -> Iterator[bytes]:
        """Write a call that begins, or what was not said of one that is done."""
        group, grown = _CALLS[item["type"]]
        place = self._calls.get(_place(event))
        if place is None:
            place = self._calls[_place(event)] = len(self._calls)
            yield self._frame({"tool_calls": [{"index": place, **_call_of(item)}]})
        elif place not in self._grown and item.get(grown):
            yield self._frame({"tool_calls": [{"index": place, group: {grown: item[grown]}}]})
        if item.get(grown):
            self._grown.add(place)

    def _end(self, event: Mapping[str, Any]) -> Iterator[bytes]:
        response = event.get("response") or {}
        if event["type"] in {"error", "response.failed"}:
            # No mark follows: many clients take it for success.
            yield b"data: %b\n\n" % orjson.dumps(error_of(response.get("error") or event))
            return
        if not self._has_text and (text := completion_of(response)["choices"][0]["message"]["content"]):
            yield self._frame({"content": text})
        yield self._frame({}, "tool_calls" if self._calls and _is_whole(response) else finish_reason(response))
        if self._includes_usage and response.get("usage"):
            chunk = {**self._head, "choices": [], "usage": usage(response["usage"])}
            yield b"data: %b\n\n" % orjson.dumps(chunk)
        yield DONE

    def _frame(self, delta: Mapping[str, Any], ended: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ended}
        return b"data: %b\n\n" % orjson.dumps({**self._head, "choices": [choice]})


def error_of(error: Mapping[str, Any]) -> dict[str, Any]:
    """Write the error of a response as that of a call."""
    told = {"message": error.get("message"), "type": "server_error", "param": None, "code": error.get("code")}
    return {"error": told}


def completion_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """Write a whole response, which has not failed, as a completion."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    calls: list[dict[str, Any]] = []
    for item in response.get("output") or ():
        kind = item.get("type")
        if kind in _CALLS:
            calls.append(_call_of(item))
        elif kind == "reasoning":
            for part in [*(item.get("summary") or ()), *(item.get("content") or ())]:
                _append(message, "reasoning_content", part.get("text"))
        elif kind == "message":
            for part in item.get("content") or ():
                _append(message, "content", part.get("text"))
                _append(message, "refusal", part.get("refusal"))
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(response)}
    told = {"usage": usage(response["usage"])} if response.get("usage") else {}
    return {**_head(response, "chat.completion"), "choices": [choice], **told}


def finish_reason(response: Mapping[str, Any]) -> str:
    """Say in chat's words why a response has ended."""
    if not _is_whole(response):
        reason = (response.get("incomplete_details") or {}).get("reason")
        return "length" if reason in {None, _LENGTH} else "content_filter"
    has_calls = any(item.get("type") in _CALLS for item in response.get("output") or ())
    return "tool_calls" if has_calls else "stop"


def usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the usage of a response in chat's words."""
    given, made = counts.get("input_tokens_details") or {}, counts.get("output_tokens_details") or {}
    return {
        "prompt_tokens": counts.get("input_tokens"),
        "completion_tokens": counts.get("output_tokens"),
        "total_tokens": counts.get("total_tokens"),
        "prompt_tokens_details": {"cached_tokens": given.get("cached_tokens", 0)},
        "completion_tokens_details": {"reasoning_tokens": made.get("reasoning_tokens", 0)},
    }


def _head(response: Mapping[str, Any], kind: str) -> dict[str, Any]:
    made = f"chatcmpl-{str(response.get('id')).removeprefix('resp_')}"
    return {"id": made, "object": kind, "created": response.get("created_at"), "model": response.get("model")}


def _is_whole(response: Mapping[str, Any]) -> bool:
    return response.get("status") != "incomplete"


def _place(event: Mapping[str, Any]) -> Any:
    """Tell which item an event is about; servers give each a place, and some no id."""
    return event.get("output_index")


def _call_of(item: Mapping[str, Any]) -> dict[str, Any]:
    group, grown = _CALLS[item["type"]]
    return {"id": item.get("call_id"), "type": group, group: {"name": item.get("name"), grown: item.get(grown) or ""}}


def _append(message: dict[str, Any], name: str, text: str | None) -> None:
    if text:
        message[name] = (message.get(name) or "") + text
