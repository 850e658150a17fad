"""Assemble the messages of a chat from the items of an input: calls and outputs in order, in one pass."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.settings.upstreams import ChatProfile
from app.upstream.chat.call_fragments import arguments_of
from app.upstream.chat.offered_tools import Offer, is_hosted_search
from app.upstream.chat.reasoning import Thoughts, recalled
from app.upstream.transport import UnfitRequestError
from app.wire import error_messages
from app.wire.requests.input_items import item_type
from app.wire.requests.value_checks import Check, array, either, enum, object_of, string, tagged

_SEARCH, _SEARCHES = "tool_search", ("tool_search_call", "tool_search_output")
_CALLS = frozenset({"function_call", "custom_tool_call", _SEARCHES[0]})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output", _SEARCHES[1]})
# What OpenAI ran in an earlier turn, and what says nothing to a model.
_OMITTED = frozenset(
    {
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call"),
        *("computer_call_output", "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
        *("configuration_update", "compaction_trigger", "additional_tools", *_SEARCHES),
    }
)
_DETAILS = frozenset({"auto", "low", "high"})
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
_PARAGRAPH, _ELSEWHERE = "\n\n", "(see the next message)"
_LEFT_OUT = "(an image was left out: this model cannot be shown what a tool returns)"

# The form of what is read here, whoever made it: a client, or another upstream in an earlier turn.
_TEXT, _NAME = string(), string(non_empty=True)
_CALL: Mapping[str, Check] = {"call_id": _NAME, "name": _NAME}
_ITEM = object_of(optional={"type": _TEXT})
_ITEMS: Mapping[str | None, Check] = {
    "message": object_of(required={"role": enum("user", "assistant", "system", "developer")}),
    "function_call": object_of(required=_CALL, optional={"namespace": _TEXT}),
    "custom_tool_call": object_of(required={**_CALL, "input": _TEXT}, optional={"namespace": _TEXT}),
    **dict.fromkeys(_OUTPUTS, object_of(required={"call_id": _NAME})),
    **dict.fromkeys(_SEARCHES, object_of(optional={"call_id": _NAME, "execution": _TEXT})),
}
_CONTENT = either("one of a string or array of objects", {str: _TEXT, list: array})
_PART = tagged(
    _TEXT,
    {
        **dict.fromkeys(("input_text", "output_text", "text"), object_of(required={"text": _TEXT})),
        "refusal": object_of(required={"refusal": _TEXT}),
        "input_image": object_of(optional={"image_url": _TEXT, "detail": _TEXT}),
        "input_file": object_of(optional={"file_data": _TEXT, "filename": _TEXT}),
        "input_audio": object_of(required={"input_audio": object_of()}),
    },
)

Item = Mapping[str, Any]
Message = dict[str, Any]


@dataclass(slots=True)
class _Call:
    """Hold a call, the id that it has in the chat, and its output with the path of that; no path: it has none."""

    item: Item
    call_id: str
    output: Any = None
    path: str = ""


@dataclass(slots=True)
class _Turn:
    """Hold an assistant message that is still open: its texts, its calls and the thoughts before them."""

    texts: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    thoughts: list[Thoughts] = field(default_factory=list)
    is_answered: bool = False


class Messages:
    """Assemble the messages for one server. `open_thoughts` reads a reasoning item, sealed or not.

    Raises UnfitRequestError for what a chat cannot say, and InvalidRequestError for a malformed item and for a call
    without an output.
    """

    def __init__(self, profile: ChatProfile, offer: Offer, open_thoughts: Callable[[Item], Thoughts]) -> None:
        self._profile = profile
        self._offer = offer
        self._open_thoughts = open_thoughts
        self._instructions: list[str] = []
        self._messages: list[Message] = []
        self._late: list[Message] = []
        self._open: _Turn | None = None
        # By their places in the input.
        self._calls: dict[int, _Call] = {}

    def assemble(self, instructions: str | None, given: str | Sequence[Any]) -> list[Message]:
        """Return the messages of these instructions and this input."""
        if instructions:
            self._instruct(instructions)
        if isinstance(given, str):
            self._messages += [{"role": "user", "content": given}] if given else []
        else:
            self._pair(given)
            for index, item in enumerate(given):
                self._add(item, index, f"input[{index}]")
            self._close()
        if self._instructions:
            self._messages.insert(0, self._system(_PARAGRAPH.join(self._instructions)))
        return self._messages

    def _pair(self, given: Sequence[Any]) -> None:
        """Check each item, and find the output of each call. Raises InvalidRequestError where one is missing.

        Some servers number the calls of each answer anew: of calls with one id, each has the next output behind it.
        An output too many counts in the place of the one before it.
        """
        alike: dict[str, list[_Call]] = {}
        answered: dict[str, int] = {}
        for index, item in enumerate(given):
            path = f"input[{index}]"
            _ITEM(item, path)
            kind = item_type(item)
            if (check := _ITEMS.get(kind)) is not None:
                check(item, path)
            if is_hosted_search(item):
                continue
            if kind in _CALLS:
                calls = alike.setdefault(item["call_id"], [])
                calls.append(_Call(item, self._call_id(item["call_id"], len(calls) + 1)))
                self._calls[index] = calls[-1]
            elif kind in _OUTPUTS:
                call_id = item["call_id"]
                if call_id not in alike:
                    raise error_messages.output_without_call(kind, call_id)
                place = min(answered.get(call_id, 0), len(alike[call_id]) - 1)
                answered[call_id] = place + 1
                call = alike[call_id][place]
                found = kind in _SEARCHES and self._offer.found(item.get("tools"))
                call.output, call.path = found or item.get("output"), f"{path}.output"
        for call in self._calls.values():
            if not call.path:
                raise error_messages.unanswered_call(call.item["type"], call.item["call_id"])

    def _add(self, item: Item, index: int, path: str) -> None:
        kind = item_type(item)
        if kind == "message":
            self._add_message(item["role"], item.get("content"), f"{path}.content")
        elif index in self._calls:
            self._turn().calls.append(self._calls[index])
        elif kind in _OUTPUTS and not is_hosted_search(item):
            if self._open is not None and self._open.calls:
                self._open.is_answered = True
        elif kind == "reasoning":
            self._turn().thoughts.append(self._open_thoughts(item))
        elif kind not in _OMITTED:
            raise UnfitRequestError(f"{path}.type")

    def _add_message(self, role: str, content: Any, path: str) -> None:
        parts = self._parts(content, path)
        if role == "user":
            self._close()
            shown = _shown(parts)
            if shown:
                self._messages.append({"role": "user", "content": shown})
            return
        for place, part in enumerate(parts):
            if part["type"] != "text":
                raise UnfitRequestError(f"{path}[{place}]")
        text = "".join([part["text"] for part in parts])
        if role != "assistant":
            self._instruct(text)
        elif text:
            self._turn().texts.append(text)

    def _instruct(self, text: str) -> None:
        if not text:
            return
        if self._profile.system_position == "first":
            self._instructions.append(text)
        elif self._open is not None and self._open.calls:
            # Nothing may stand between a call and its output.
            self._late.append(self._system(text))
        else:
            self._close()
            self._messages.append(self._system(text))

    def _system(self, text: str) -> Message:
        return {"role": self._profile.system_role, "content": text}

    def _turn(self) -> _Turn:
        """Return the open assistant message; one whose calls are answered is closed before another begins."""
        if self._open is None or self._open.is_answered:
            self._close()
            self._open = _Turn()
        return self._open

    def _close(self) -> None:
        """Write the open assistant message, then the outputs of its calls in their order, then images of theirs."""
        turn, self._open = self._open, None
        if turn is None:
            return
        if turn.texts or turn.calls:
            self._messages.append(self._assistant(turn))
        images: list[Any] = []
        for call in turn.calls:
            self._answer(call, images)
        if images:
            self._messages.append({"role": "user", "content": images})
        self._messages += self._late
        self._late = []

    def _assistant(self, turn: _Turn) -> Message:
        message: Message = {"role": "assistant"}
        if turn.texts:
            message["content"] = _PARAGRAPH.join(turn.texts)
        elif self._profile.null_content != "omit":
            message["content"] = None if self._profile.null_content == "null" else ""
        extras = {call_id: extra for each in turn.thoughts for call_id, extra in each.extras.items()}
        if turn.calls:
            message["tool_calls"] = [self._called(call, extras.get(call.item["call_id"])) for call in turn.calls]
        return message | recalled(turn.thoughts, self._profile, has_calls=bool(turn.calls))

    def _called(self, call: _Call, extra: Any) -> dict[str, Any]:
        name = self._offer.name_of(call.item.get("name") or _SEARCH, call.item.get("namespace"))
        function = {"name": name, "arguments": arguments_of(call.item)}
        made: dict[str, Any] = {"id": call.call_id, "type": "function", "function": function}
        return made if extra is None else {**made, "extra_content": extra}

    def _answer(self, call: _Call, images: list[Any]) -> None:
        """Write the tool message of a call; images that it may not have are added to `images`."""
        message: Message = {"role": "tool", "tool_call_id": call.call_id, "content": ""}
        self._messages.append(message)
        parts = self._parts(call.output, call.path)
        texts = [part["text"] for part in parts if part["type"] == "text"]
        if len(texts) < len(parts):
            shown = [part for part in parts if part["type"] != "text"]
            match self._profile.tool_result_images:
                case "refuse":
                    raise UnfitRequestError(call.path)
                case "native":
                    message["content"] = parts
                    return
                case "user_message":
                    texts = texts or [_ELSEWHERE]
                    images += [{"type": "text", "text": f"What the tool call {call.call_id} returned:"}, *shown]
                case "drop_with_note":
                    texts.append(_LEFT_OUT)
        message["content"] = "\n".join(texts)

    def _call_id(self, call_id: str, count: int) -> str:
        """Return the id that the call has in the chat, which is the `count`-th of that id."""
        call_id = call_id if count == 1 else f"{call_id}_{count}"
        if self._profile.call_id_form == "any" or _MISTRAL_ID.fullmatch(call_id):
            return call_id
        return hashlib.sha256(call_id.encode()).hexdigest()[:9]

    def _parts(self, content: Any, path: str) -> list[dict[str, Any]]:
        """Translate the content of a message or an output; a string is one text."""
        _CONTENT(content, path)
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        return [self._part(part, f"{path}[{place}]") for place, part in enumerate(content)]

    def _part(self, part: Any, path: str) -> dict[str, Any]:
        _PART(part, path)
        match part["type"]:
            case "input_text" | "output_text" | "text":
                return {"type": "text", "text": part["text"]}
            case "refusal":
                return {"type": "text", "text": part["refusal"]}
            case "input_image":
                _check_source(part, path, "image_url", is_taken=self._profile.images)
                detail = {"detail": part["detail"]} if part.get("detail") in _DETAILS else {}
                return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
            case "input_file":
                _check_source(part, path, "file_data", is_taken=self._profile.files)
                named = {name: part[name] for name in ("filename", "file_data") if part.get(name)}
                return {"type": "file", "file": named}
            case "input_audio" if self._profile.audio:
                return {"type": "input_audio", "input_audio": part["input_audio"]}
        raise UnfitRequestError(path)


def _shown(parts: list[dict[str, Any]]) -> str | list[Any]:
    """Return a text where all parts are text, which is the only form that some servers take; else the parts."""
    return parts if any(part["type"] != "text" for part in parts) else "\n".join([part["text"] for part in parts])


def _check_source(part: Item, path: str, source: str, *, is_taken: bool) -> None:
    """Refuse a part that the server does not take, or that comes from another source: an account, an address."""
    for other in ("file_id", "file_url"):
        if part.get(other) and not part.get(source):
            raise UnfitRequestError(f"{path}.{other}")
    if not is_taken:
        raise UnfitRequestError(path)
    if not part.get(source):
        raise error_messages.missing(f"{path}.{source}")
