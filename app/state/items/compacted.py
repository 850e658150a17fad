"""Compact a history: how the model is asked for a summary, and the item that replaces the history.

The item's encrypted content is a run of items, joined by commas, that replaces it in what an upstream is sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec.structs import replace

from app.ids import new_item_id
from app.state.items.token_estimate import estimate_items, estimate_text
from app.state.records import Item
from app.wire.json_body import Json, join_array, join_object
from app.wire.requests.input_items import LONGEST_SEALED, item_type
from app.wire.responses.response_object import ResponseFacts

SEAL = "antiphon.v1."
"""The prefix of encrypted content that this gateway made: what it holds can be sent to any upstream."""

LARGEST_CONTENT = (LONGEST_SEALED - len(SEAL)) // 4 * 3 - 64
"""The most bytes that one item can hold encrypted: base64 makes four of three, and encryption adds some."""

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


@dataclass(frozen=True, slots=True)
class Compaction:
    """Hold a compacted history: the item that replaces it, what an upstream is sent for the item, and the cost.

    `content` is a run of items, joined by commas; `usage` the token counts of the call that wrote the summary, which is
    cached under `summary_key` until the call is answered.
    """

    item: bytes
    content: bytes
    usage: Mapping[str, Any] | None
    summary_key: tuple[str, bytes] | None = None


def sealed_in(item: Mapping[str, Any]) -> str | None:
    """Return the encrypted content of a decoded item, if the item is one of this gateway's compactions."""
    content = item.get("encrypted_content")
    ours = item_type(item) == "compaction" and isinstance(content, str) and content.startswith(SEAL)
    return content if ours else None


def is_sealed_reasoning(item: Mapping[str, Any]) -> bool:
    """Tell whether a decoded item is reasoning that this gateway sealed: no native upstream can read it."""
    content = item.get("encrypted_content")
    return item_type(item) == "reasoning" and isinstance(content, str) and content.startswith(SEAL)


def sealed_for(account: str | None) -> str:
    """Name the readers of what this gateway sealed: all accounts of this one's upstream; of any upstream for None."""
    return f"{(account or '').partition('/')[0]}/"


def summary_input(history: Sequence[bytes]) -> bytes:
    """Make the input of the call that has a model summarise this history."""
    return join_array([*history, _message("user", _REQUEST)])


def summary_item(text: str) -> bytes:
    """Make the item that gives a model the summary.

    It is a user's message, though no user wrote it: every upstream takes those anywhere, and what tools wrote in the
    past must not come back with an operator's authority.
    """
    return _message("user", f"{_PREAMBLE}{text}")


def is_summary(item: Item) -> bool:
    """Tell whether the item is a summary of ours, and so no message of the user's."""
    return _PREAMBLE_JSON in item.content


def compaction_item(sealed: str) -> bytes:
    """Make the compaction item as clients get it."""
    return orjson.dumps({"id": new_item_id("compaction"), "type": "compaction", "encrypted_content": sealed})


def replaced_tokens(history: Iterable[Item], kept: Iterable[bytes]) -> int:
    """Estimate the tokens that a summary replaces; 0 where the request for it would take more."""
    replaced = estimate_items([item.content for item in history]) - estimate_items(kept)
    return replaced if replaced > estimate_text(_REQUEST) else 0


def with_compaction(compaction: Compaction, facts: ResponseFacts) -> ResponseFacts:
    """Put the compaction before the response's output, and add its cost to the usage."""
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


def _message(role: str, text: str) -> bytes:
    return orjson.dumps({"type": "message", "role": role, "content": text})
