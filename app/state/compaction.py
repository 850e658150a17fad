"""A history made short by this gateway: what is kept of it, what the model is asked, and the item that stands for it.

Such an item's content is sealed: a run of items, joined by commas, that takes its place in what an upstream is sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec.structs import replace

from app.ids import new_item_id
from app.state.estimate import estimate_item, estimate_items, estimate_text
from app.state.pairs import answered, is_output
from app.state.records import Item
from app.wire.body import Json, join_array, join_object
from app.wire.input_items import LONGEST_SEALED, item_type
from app.wire.response import ResponseFacts
from app.wire.slices import decode

SEAL = "antiphon.v1."
"""How the encrypted content begins that this gateway has made: any upstream can be sent what it holds."""

LARGEST_CONTENT = (LONGEST_SEALED - len(SEAL)) // 4 * 3 - 64
"""How many bytes can be sealed into one item: base64 makes four of three, and the seal itself takes some."""

# A summary of so many bytes is longer than any that is of use.
_SUMMARY_BYTES = 1_000_000

_REQUEST = """\
The conversation above has grown too long and will be replaced by a summary that you write now. Another model, which \
will have seen nothing else but the user's own messages, goes on from it. Answer with the summary alone; call no tool.
Say, under short headings and in the conversation's language:
- what the user wants, with every standing instruction and constraint;
- what has been done and decided, and why;
- the facts to go on with, exactly as they were given: names, numbers, ids, dates, URLs, file paths, code, errors;
- where things stand now, and what is left to do, the next step first.
Leave out pleasantries and whatever no longer matters. Invent nothing."""
_PREAMBLE = "The earlier conversation was replaced by this summary of it:\n\n"
_PREAMBLE_JSON = b'"content":' + orjson.dumps(_PREAMBLE)[:-1]
_INSTRUCTING = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Compaction:
    """A history that was made short: the item that stands for it, what an upstream is sent instead, and what it cost.

    `content` is a run of items, joined by commas; `usage` the token counts of the call that wrote the summary, which
    stands under `summary_key` until the call is answered.
    """

    item: bytes
    content: bytes
    usage: Mapping[str, Any] | None
    summary_key: tuple[str, bytes] | None = None


def sealed_in(item: Mapping[str, Any]) -> str | None:
    """The encrypted content of a decoded item, if it is one of this gateway's compactions."""
    content = item.get("encrypted_content")
    ours = item_type(item) == "compaction" and isinstance(content, str) and content.startswith(SEAL)
    return content if ours else None


def request_for(history: Sequence[bytes]) -> bytes:
    """The input of the call that has a model summarise this history."""
    return join_array([*history, _message("user", _REQUEST)])


def summary(text: str) -> bytes:
    """The item that tells a model the summary.

    A user's message, though it is none: every upstream takes those anywhere, and what tools have said in the past must
    not come back with an operator's authority.
    """
    return _message("user", f"{_PREAMBLE}{text}")


def compaction_item(sealed: str) -> bytes:
    """The compaction item as clients get it."""
    return orjson.dumps({"id": new_item_id("compaction"), "type": "compaction", "encrypted_content": sealed})


def user_messages(items: Iterable[Item]) -> list[Item]:
    """What the user has said, in order."""
    return [item for item in items if _role(item) == "user" and not _is_summary(item)]


def cut(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The history, and what the model has yet to answer: what stands after its last word, and the calls in question."""
    end = len(items)
    while end and (is_output(items[end - 1]) or _role(items[end - 1]) not in {None, "assistant"}):
        end -= 1
    open_ids = answered(items[end:])
    asked: list[Item] = []
    history: list[Item] = []
    for item in items[:end]:
        (asked if not is_output(item) and item.call_id in open_ids else history).append(item)
    return history, [*asked, *items[end:]]


def retained(history: Sequence[Item], budget: int, unanswered: Sequence[Item] = ()) -> list[bytes] | None:
    """What stays of a history word for word: all instructions, and of the user's messages the newest in the budget.

    `budget` is in tokens, by estimate. None where no item can hold that with a summary and what is yet to be answered.
    """
    room = LARGEST_CONTENT - _SUMMARY_BYTES - _size(item.content for item in unanswered)
    roles = [_role(item) for item in history]
    room -= _size(item.content for item, role in zip(history, roles, strict=True) if role in _INSTRUCTING)
    if room < 0:
        return None
    kept: list[bytes] = []
    for item, role in zip(reversed(history), reversed(roles), strict=True):
        if role == "user" and not _is_summary(item):
            budget -= estimate_item(item.content)
            room -= len(item.content) + 1
            if budget >= 0 and room >= 0:
                kept.append(item.content)
        elif role in _INSTRUCTING:
            kept.append(item.content)
    return kept[::-1]


def replaced_tokens(history: Iterable[Item], kept: Iterable[bytes]) -> int:
    """The tokens, by estimate, of what a summary stands for; 0 where the request for it would take more than that."""
    replaced = estimate_items([item.content for item in history]) - estimate_items(kept)
    return replaced if replaced > estimate_text(_REQUEST) else 0


def placed(compaction: Compaction, facts: ResponseFacts) -> ResponseFacts:
    """The response with the compaction as its first output item, and what that cost in its usage."""
    output = Json(join_array([compaction.item, *facts.output]))
    usage = _sum(facts.usage, compaction.usage)
    members = {**facts.members, "output": output, "usage": Json(orjson.dumps(usage))}
    return replace(facts, raw=join_object(members), parts=members, usage=usage)


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, Mapping):
        return {**other, **{name: _sum(value, other.get(name)) for name, value in one.items()}}
    if type(one) is int and type(other) is int:
        return one + other
    return other if one is None else one


def _size(contents: Iterable[bytes]) -> int:
    """The bytes of these in a run of items."""
    return sum([len(content) + 1 for content in contents])


def _message(role: str, text: str) -> bytes:
    return orjson.dumps({"type": "message", "role": role, "content": text})


def _is_summary(item: Item) -> bool:
    return _PREAMBLE_JSON in item.content


def _role(item: Item) -> str | None:
    """Who says a message; None for what is none."""
    return decode(item.content).get("role") if item.type == "message" else None
