"""A server that speaks chat completions alone, on a real socket, in dialects that are data.

`async with FakeChat(STRICT) as chat:` serves a model that answers by directives in the last user's text: `[call NAME]`
calls that tool (several: `[call A] [call B]`), `[words:N]` says so many words, `[slow:N]` waits so many milliseconds
between chunks, `[cut]` breaks off half-way, `[error]` answers 200 with an error. A tool's output is quoted.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson

from tests.fakes.chat_shapes import CALL_SHAPES, USAGE_SHAPES, Chunk, chunk, signature
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream, Recorded

_CALLED = re.compile(r"\[call ([\w-]+)\]")
_NUMBERED = re.compile(r"\[(words|slow):(\d+)\]")
THOUGHT = "The user wants something."


@dataclass(frozen=True)
class Dialect:
    """What a server takes and sends. `takes`: the only keys of a body, if strict; `has_tags`: it thinks in the text."""

    takes: frozenset[str] | None = None
    reasoning_in: str | None = None
    has_tags: bool = False
    needs_reasoning: bool = False
    is_template: bool = False
    calls: str = "standard"
    usage: str = "chunk"
    ends_with_done: bool = True


OPENAI = Dialect()
STRICT = Dialect(
    takes=frozenset(
        {"model", "messages", "stream", "max_tokens", "temperature", "top_p", "tools", "tool_choice"}
        | {"parallel_tool_calls", "response_format", "presence_penalty", "frequency_penalty"}
    ),
    usage="finish",
)
DEEPSEEK = Dialect(reasoning_in="reasoning_content", needs_reasoning=True)
OPENROUTER = Dialect(reasoning_in="reasoning")
GEMINI = Dialect(calls="signed")
TEMPLATE = Dialect(is_template=True, ends_with_done=False)
TAGGED = Dialect(has_tags=True)


@dataclass
class FakeChat:
    """The server. `refusals` are what it found wrong with requests; `before` may answer in its place."""

    dialect: Dialect = OPENAI
    server: FakeUpstream = field(default_factory=FakeUpstream)
    refusals: list[str] = field(default_factory=list)
    before: Callable[[Mapping[str, Any]], Reply | None] | None = None

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the calls so far."""
        return [request.json for request in self.server.requests if request.method == "POST"]

    async def __aenter__(self) -> Self:
        self.server.respond = self._respond
        await self.server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.__aexit__(kind, error, trace)

    def _respond(self, request: Recorded) -> Reply:
        if request.path.endswith("/models"):
            return Reply.json(200, {"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]})
        if not request.path.endswith("/chat/completions"):
            return Reply.error(404, message=f"{request.path} is not here.")
        body = request.json
        if self.before is not None and (reply := self.before(body)) is not None:
            return reply
        wrong = next(problems(body, self.dialect), None)
        if wrong is not None:
            self.refusals.append(wrong)
            return Reply.json(422 if self.dialect.takes else 400, {"object": "error", "message": wrong})
        return answer(body, self.dialect)


def problems(body: Mapping[str, Any], dialect: Dialect) -> Iterator[str]:
    """What the server does not take, first of all what none does: calls and outputs that are apart."""
    if dialect.takes is not None:
        yield from (f"extra_forbidden: {name}" for name in body.keys() - dialect.takes)
    yield from _unpaired(body["messages"])
    for place, message in enumerate(body["messages"]):
        role, calls = message["role"], message.get("tool_calls")
        if calls == [] or (role == "assistant" and not calls and not message.get("content")):
            yield f"messages[{place}]: empty assistant message"
        if dialect.needs_reasoning and calls and "reasoning_content" not in message:
            yield f"messages[{place}]: reasoning_content is missing in assistant tool call message"
        if dialect.calls == "signed" and calls and calls[0].get("extra_content") is None:
            yield f"messages[{place}]: Function call is missing a thought_signature in functionCall parts."
        if dialect.is_template and (role == "developer" or (role == "system" and place > 0)):
            yield "System message must be at the beginning"
        if dialect.takes is not None and message.keys() - {"role", "content", "tool_calls", "tool_call_id"}:
            yield f"messages[{place}]: extra_forbidden"


def _unpaired(messages: list[dict[str, Any]]) -> Iterator[str]:
    due: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in due:
                yield f"messages[{place}]: tool result's tool id not found"
            due.remove(message["tool_call_id"])
            continue
        if due:
            yield f"messages[{place}]: tool calls without outputs: {due}"
        due = [call["id"] for call in message.get("tool_calls") or ()]
    if due:
        yield f"tool calls without outputs: {due}"


def answer(body: Mapping[str, Any], dialect: Dialect) -> Reply:
    """What the model says, whole or in chunks."""
    last = body["messages"][-1]
    asked = _text(last["content"]) if last["role"] == "user" else ""
    numbers = {name: int(value) for name, value in _NUMBERED.findall(asked)}
    if "[error]" in asked:
        return Reply.json(200, {"error": {"message": "The provider is down.", "code": 503}})
    calls = [
        {"id": f"call_{place}_{len(body['messages'])}", "name": name, "arguments": '{"city": "Utrecht"}'}
        for place, name in enumerate(_CALLED.findall(asked))
    ]
    text = "" if calls else _said(body, last, numbers.get("words"))
    if dialect.has_tags:
        text = f"<think>{THOUGHT}</think>{text}"
    usage = {"prompt_tokens": 10 * len(body["messages"]), "completion_tokens": 7, "total_tokens": 0}
    if not body.get("stream"):
        return Reply.json(200, _whole(body, dialect, text, calls, usage))
    chunks = [*_chunks(body, dialect, text, calls, usage)]
    frames = [b"data: " + orjson.dumps(each) + b"\n\n" for each in chunks]
    if "[cut]" in asked:
        return Reply.sse(frames[: len(frames) // 2], then=Act.CLOSE)
    frames += [b"data: [DONE]\n\n"] if dialect.ends_with_done else []
    return Reply.sse(frames, pause=numbers.get("slow", 0) / 1000)


def _said(body: Mapping[str, Any], last: Mapping[str, Any], words: int | None) -> str:
    if words is not None:
        return " ".join(f"word{number}" for number in range(words))
    if last["role"] == "tool":
        return f"The tool said: {_text(last['content'])}"
    users = [_text(each["content"]) for each in body["messages"] if each["role"] == "user"]
    return f"You said {len(users)} things, first: {users[0] if users else 'none'}"


def _whole(
    body: Mapping[str, Any], dialect: Dialect, text: str, calls: list[dict[str, str]], usage: Mapping[str, int]
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if dialect.reasoning_in:
        message[dialect.reasoning_in] = THOUGHT
    if calls:
        message["tool_calls"] = [
            {"id": each["id"], "type": "function", "function": {name: each[name] for name in ("name", "arguments")}}
            | (signature(place, each["id"]) if dialect.calls == "signed" else {})
            for place, each in enumerate(calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"id": "chatcmpl-1", "created": 5, "model": body["model"], "choices": [choice], "usage": usage}


def _chunks(
    body: Mapping[str, Any], dialect: Dialect, text: str, calls: list[dict[str, str]], usage: Mapping[str, int]
) -> Iterator[Chunk]:
    yield chunk({"role": "assistant", "content": ""})
    if dialect.reasoning_in:
        yield from (chunk({dialect.reasoning_in: word}) for word in re.findall(r"\S+ ?", THOUGHT))
    yield from (chunk({"content": word}) for word in re.findall(r"\S+ ?", text))
    yield from (chunk({"tool_calls": fragments}) for fragments in CALL_SHAPES[dialect.calls](calls))
    asks = bool((body.get("stream_options") or {}).get("include_usage"))
    yield from USAGE_SHAPES[dialect.usage if asks or dialect.usage == "finish" else "none"](
        "tool_calls" if calls else "stop", usage
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", f"<{part['type']}>") for part in content)
    return content or ""
