"""Write the output of a response as the events of a stream, each item announced and done once, and as the object."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.ids import new_item_id
from app.upstream.chat.call_fragments import InputText, ToolCall, search_of
from app.upstream.chat.offered_tools import Declared
from app.upstream.chat.reasoning import Thoughts
from app.wire import sse

_CONTENT, _SUMMARY = "response.content_part", "response.reasoning_summary"
# Of each kind of part: the list of its item, its index, its events and those of its text, and the member of the text.
_KINDS = {
    "reasoning_text": ("content", "content_index", _CONTENT, "response.reasoning_text", "text"),
    "summary_text": ("summary", "summary_index", f"{_SUMMARY}_part", f"{_SUMMARY}_text", "text"),
    "output_text": ("content", "content_index", _CONTENT, "response.output_text", "text"),
    "refusal": ("content", "content_index", _CONTENT, "response.refusal", "refusal"),
}
_SHOWN_AS = {"summary": "summary_text", "text": "reasoning_text"}


@dataclass(slots=True)
class _Part:
    """Hold the part of an item that is being written, and `where`; its text is joined when it is done."""

    kind: str
    where: dict[str, Any]
    value: dict[str, Any]
    pieces: list[str] = field(default_factory=list)


class OutputEvents:
    """Write one response, in order: `begin`, the output, `end`. `frames` are the events since they were last taken.

    `response` is the object as far as it has come. A message and reasoning are open one at a time, calls until the end.
    With `is_silent` no events are written. It takes over what is `echoed`, and keeps it packed.
    """

    def __init__(
        self, echoed: dict[str, Any], seal: Callable[[bytes], str], reasoning_as: str, *, is_silent: bool = False
    ) -> None:
        # What the client's tools and schemas decode to weighs many times as much, and is only repeated.
        for name, value in echoed.items():
            if isinstance(value, dict | list):
                echoed[name] = orjson.Fragment(orjson.dumps(value))
        self.response = echoed
        self.frames: list[bytes] = []
        self._output: list[dict[str, Any]] = []
        self._seal = seal
        self._shown_as = _SHOWN_AS.get(reasoning_as)
        self._is_silent = is_silent
        self._number = 0
        # The place of the message or the reasoning that is open, and its part.
        self._place: int | None = None
        self._part: _Part | None = None
        self._thoughts: Thoughts | None = None
        self._thought: list[str] = []
        self._calls: dict[int, tuple[ToolCall, Declared]] = {}
        self._inputs: dict[int, InputText] = {}

    @property
    def output(self) -> Sequence[Mapping[str, Any]]:
        """Return the items so far."""
        return self._output

    def begin(self) -> None:
        """Announce the response."""
        self._emit("response.created", response=self.response)
        self._emit("response.in_progress", response=self.response)

    def reasoning(self, text: str, upstream: str) -> Thoughts:
        """Add reasoning; return the thoughts of the item that it stands in, which are sealed when that is done."""
        place, thoughts = self._place, self._thoughts
        if place is None or thoughts is None:
            self._close_text()
            thoughts, self._thought = Thoughts(upstream), []
            place = self._add({"id": new_item_id("reasoning"), "type": "reasoning", "summary": []})
            self._place, self._thoughts = place, thoughts
        self._thought.append(text)
        if text and self._shown_as is not None:
            self._write(self._open_part(place, self._shown_as), text)
        return thoughts

    def text(self, text: str, logprobs: Sequence[Any] = ()) -> None:
        """Add text to the message, which begins with it where none is open; an empty text only begins it."""
        part = self._open_message("output_text")
        if text:
            self._write(part, text, logprobs)

    def refusal(self, text: str) -> None:
        """Add to the refusal, which is a part of the message."""
        self._write(self._open_message("refusal"), text)

    def citation(self, annotation: Mapping[str, Any]) -> None:
        """Add an annotation to the text."""
        part = self._open_message("output_text")
        annotations = part.value["annotations"]
        annotations.append(annotation)
        self._emit(
            "response.output_text.annotation.added",
            **part.where,
            annotation_index=len(annotations) - 1,
            annotation=annotation,
        )

    def text_frame(self, delta: str) -> bytes | None:
        """Make the event of a text that only continues the message; None where it would do more."""
        part = self._part
        if part is None or part.kind != "output_text":
            return None
        return self._frame("response.output_text.delta", {**part.where, "delta": delta, "logprobs": []})

    def text_was_sent(self, delta: str) -> None:
        """Count the event of `text_frame` as sent."""
        assert self._part is not None  # noqa: S101 - the event was made for it
        self._part.pieces.append(delta)
        self._number += 1

    def call(self, call: ToolCall, declared: Declared) -> None:
        """Announce a call; what there is of its arguments follows."""
        self._close_text()
        is_custom, is_search = declared.kind == "custom", declared.kind == "tool_search"
        kind = "custom_tool_call" if is_custom else "tool_search_call" if is_search else "function_call"
        item: dict[str, Any] = {"id": new_item_id(kind), "type": kind, "status": "in_progress", "call_id": call.call_id}
        if is_search:
            item |= {"execution": "client", "arguments": {}}
        else:
            item |= {"name": declared.name, "input" if is_custom else "arguments": ""}
        if declared.namespace is not None:
            item["namespace"] = declared.namespace
        call.place = self._add(item)
        self._calls[call.place] = call, declared
        if is_custom:
            self._inputs[call.place] = InputText()
        self.arguments(call, "".join(call.arguments))

    def arguments(self, call: ToolCall, text: str) -> None:
        """Add to the arguments of an announced call, or to the input that they say."""
        assert call.place is not None  # noqa: S101 - it is announced
        custom, kind = self._inputs.get(call.place), "response.function_call_arguments.delta"
        if custom is not None:
            text, kind = custom.feed(text), "response.custom_tool_call_input.delta"
        if text and self._calls[call.place][1].kind != "tool_search":
            self._emit(kind, **self._at(call.place), delta=text)

    def end(
        self,
        status: str,
        *,
        usage: Mapping[str, Any] | None,
        reason: str | None = None,
        error: Mapping[str, str] | None = None,
    ) -> None:
        """End the response: finish what is open, and write the last event. What was cut off is incomplete."""
        is_cut = status != "completed"
        self._close_text("incomplete" if is_cut else "completed")
        last = max(self._calls, default=-1)
        for place, (call, declared) in self._calls.items():
            is_whole = not is_cut or (place != last and status != "failed" and call.is_whole)
            self._finish_call(place, call, declared, "completed" if is_whole else "incomplete")
        self.response = {
            **self.response,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": self._output,
            "usage": usage,
        }
        self._emit(f"response.{status}", response=self.response)

    def _open_message(self, kind: str) -> _Part:
        """Return the part of this kind of the message; either begins where it is not open."""
        place = self._place
        if place is None or self._thoughts is not None:
            self._close_text()
            item = {"id": new_item_id("message"), "type": "message", "status": "in_progress", "role": "assistant"}
            place = self._place = self._add({**item, "content": []})
        return self._open_part(place, kind)

    def _open_part(self, place: int, kind: str) -> _Part:
        """Return the part of this kind of the item at this place, which is open; it begins where another is open."""
        if self._part is not None and self._part.kind == kind:
            return self._part
        self._close_part()
        name, index, event, _, text = _KINDS[kind]
        parts = self._output[place].setdefault(name, [])
        value: dict[str, Any] = {"type": kind, text: ""}
        if kind == "output_text":
            value |= {"annotations": [], "logprobs": []}
        part = self._part = _Part(kind, {**self._at(place), index: len(parts)}, value)
        self._emit(f"{event}.added", **part.where, part=value)
        return part

    def _write(self, part: _Part, text: str, logprobs: Sequence[Any] = ()) -> None:
        part.pieces.append(text)
        members: dict[str, Any] = {"delta": text}
        if part.kind == "output_text":
            members["logprobs"] = logprobs
            part.value["logprobs"] += logprobs
        self._emit(f"{_KINDS[part.kind][3]}.delta", **part.where, **members)

    def _close_part(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        name, _, event, text_event, text = _KINDS[part.kind]
        whole = part.value
        whole[text] = "".join(part.pieces)
        self._output[part.where["output_index"]][name].append(whole)
        said = {"logprobs": whole["logprobs"]} if part.kind == "output_text" else {}
        self._emit(f"{text_event}.done", **part.where, **{text: whole[text]}, **said)
        self._emit(f"{event}.done", **part.where, part=whole)

    def _close_text(self, status: str = "completed") -> None:
        """Finish the message or the reasoning that is open."""
        self._close_part()
        place, self._place = self._place, None
        thoughts, self._thoughts = self._thoughts, None
        if place is None:
            return
        item = self._output[place]
        if thoughts is not None:
            thoughts.text = "".join(self._thought)
            item["encrypted_content"] = thoughts.sealed(self._seal)
        else:
            item["status"] = status
        self._emit("response.output_item.done", output_index=place, item=item)

    def _finish_call(self, place: int, call: ToolCall, declared: Declared, status: str) -> None:
        arguments, item = "".join(call.arguments), self._output[place]
        item["status"] = status
        if declared.kind == "custom":
            item["input"], rest = self._inputs[place].finish()
            said = item["input"]
            if rest:
                self._emit("response.custom_tool_call_input.delta", **self._at(place), delta=rest)
            self._emit("response.custom_tool_call_input.done", **self._at(place), input=said)
        elif declared.kind == "tool_search":
            # The API has no events for its arguments.
            item["arguments"] = search_of(arguments)
        else:
            if not arguments:
                arguments = "{}"
                self._emit("response.function_call_arguments.delta", **self._at(place), delta=arguments)
            item["arguments"] = arguments
            done = {"arguments": arguments, "name": declared.name}
            self._emit("response.function_call_arguments.done", **self._at(place), **done)
        self._emit("response.output_item.done", output_index=place, item=item)

    def _add(self, item: dict[str, Any]) -> int:
        self._output.append(item)
        place = len(self._output) - 1
        self._emit("response.output_item.added", output_index=place, item=item)
        return place

    def _at(self, place: int) -> dict[str, Any]:
        return {"item_id": self._output[place]["id"], "output_index": place}

    def _frame(self, kind: str, members: Mapping[str, Any]) -> bytes:
        return sse.frame(kind, orjson.dumps({"type": kind, "sequence_number": self._number, **members}))

    def _emit(self, kind: str, **members: Any) -> None:
        if not self._is_silent:
            self.frames.append(self._frame(kind, members))
            self._number += 1
