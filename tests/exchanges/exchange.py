"""One row of the table: what a client asks, what upstream says to it and in which form, and what the next turn is sent.

An `@` in a row stands for letters that no other call has, so that ids are used once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tests.fakes.replies import Reply

Json: TypeAlias = Mapping[str, Any]
SURFACES = (
    *("create", "stream", "chain", "conversation", "background", "websocket", "failover"),
    # The next turn names what was said by reference, or by stubs, in place of a chain.
    *("reference", "stub"),
)
USAGE: Json = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 16,
}
# Only the account that made these can read them again; clients name them by stubs, too.
OF_ONE_ACCOUNT = {
    *(
        "reasoning",
        "compaction",
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "web_search_call",
    ),
    *("mcp_approval_request", "mcp_call", "mcp_list_tools", "program", "program_output"),
}


def user(text: str, **members: Any) -> Json:
    return {"type": "message", "role": "user", "content": text, **members}


def says(text: str = "Hello.", item_id: str = "msg_1@", **members: Any) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": content, **members}


def thinks(item_id: str = "rs_1@", **members: Any) -> Json:
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": "sealed@", **members}


def calls(name: str = "f", call_id: str = "call_1@", item_id: str = "fc_1@", **members: Any) -> Json:
    call = {"id": item_id, "type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}
    return {**call, "status": "completed", **members}


def answers(call_id: str = "call_1@", kind: str = "function_call_output", **members: Any) -> Json:
    return {"type": kind, "call_id": call_id, "output": "42", **members}


@dataclass(frozen=True, kw_only=True)
class Form:
    """How upstream says it: the labels, what its last snapshot has of the output, and how its events are written.

    `ends_with` is the last event where that is not the status's; an empty one is none at all. `status` is what the
    snapshot says of itself, where it says another thing than its event. With `swaps` a stream is answered with a body,
    and a body with a stream.
    """

    json_type: str | None = "application/json"
    stream_type: str | None = "text/event-stream"
    snapshot: Literal["whole", "empty", "absent"] = "whole"
    ends_with: str | None = None
    status: str | None = None
    swaps: bool = False
    begins: bool = True
    done: bool = False
    line_end: bytes = b"\n"
    names_events: bool = True
    numbers: bool = True
    beside: Sequence[Json] = ()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What upstream answers in place of a response, and what its client is told: the words are in the message."""

    reply: Reply
    status: int
    words: str
    code: str | None = None
    kills: bool = False


# Compared by identity: one row is one exchange.
@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    """`asked` is a create body without its model. `then` is the next turn's input; without one nothing is continued.

    The next turn is sent `given` for the input and `replayed` for what was said, and another account `elsewhere` for
    it: the same, by default, and there without what only one account can read. Items of the types that it `may_drop`
    are there or not. With `is_owned` no other account may be asked. `listed` is what is listed of the input.

    `status` is how it ends for the client, and `members` are the response's beside the usual.
    """

    name: str
    asked: Json = field(default_factory=lambda: {"input": "Hi"})
    says: Sequence[Json] = (says(),)
    then: Sequence[Json] = (user("Go on."),)
    given: Sequence[Json] | None = None
    listed: Sequence[Json] | None = None
    replayed: Sequence[Json] | None = None
    elsewhere: Sequence[Json] | None = None
    may_drop: Sequence[str] = ()
    is_owned: bool = False
    status: str = "completed"
    members: Json = field(default_factory=dict)
    form: Form = field(default_factory=Form)
    refusal: Refusal | None = None
    only: Sequence[str] = SURFACES

    @property
    def input(self) -> list[Json]:
        """What it says as items."""
        given = self.asked.get("input", [])
        return [user(given)] if isinstance(given, str) else list(given)

    def history(self, *, same_account: bool) -> list[Json]:
        """What the next turn is sent before its own input."""
        given = self.input if self.given is None else list(self.given)
        said = list(self.says if self.replayed is None else self.replayed)
        if not same_account:
            said = [item for item in said if item["type"] not in OF_ONE_ACCOUNT]
            said = said if self.elsewhere is None else list(self.elsewhere)
        return given + said
