"""Which calls name things that only one upstream account has: files, vector stores, containers, prompt templates."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from app.state.compaction import sealed_in
from app.state.records import NO_ACCOUNT, Chain, Item, Turn
from app.wire.slices import ARRAYS, decode, holds

_NAMING = frozenset({"file_id", "file_ids", "vector_store_ids", "container", "container_id"})
# One of these stands in every text in which one of those is a member, also where its letters are written as escapes.
_SIGNS = (b"file_id", b"vector_store", b'"container', rb"\u005", rb"\u006", rb"\u007")
# Their schemas may have members of any name, which name nothing.
_FREE = frozenset({"function", "custom"})
# The members of a tool that say where it runs.
_HOSTING = ("container", "environment")
_APPROVAL = "mcp_approval_response"


def names_owned(fields: Mapping[str, Any], given: bytes | memoryview) -> bool:
    """Whether a decoded request names such a thing; `given` is its input as it was sent."""
    if fields.get("prompt") is not None:
        return True
    tools = fields.get("tools")
    if tools and any(tool.get("type") not in _FREE and _names(tool) for tool in tools):
        return True
    return bool(given) and holds(given, _SIGNS) and _names(fields.get("input"))


def item_names_owned(content: bytes) -> bool:
    """Whether this input item does."""
    return holds(content, _SIGNS) and _names(decode(content))


def chain_names_owned(chain: Chain) -> bool:
    """Whether a client has named such a thing in an earlier turn."""
    return any(
        turn.outline.reader is not None
        and holds(turn.content, _SIGNS)
        and any(_is_bound(item) and item_names_owned(item.content) for item in turn.items)
        for turn in chain.turns
    )


def asked_for_approval(items: Iterable[Item], resolved: Mapping[str, Item]) -> str | None:
    """The account that alone has the request that one of these new items answers; None where none is known."""
    for item in items:
        request = resolved.get(item.call_id or "") if item.type == _APPROVAL else None
        if request is not None and request.account:
            return request.account
    return None


def has_container(fields: Mapping[str, Any], chain: Chain) -> str | None:
    """The account with the container that this request's tools name, or that they go on in, as far as the chain shows.

    That may not be the one that served the chain's latest turn.
    """
    tools = [tool for tool in fields.get("tools") or () if any(map(tool.get, _HOSTING))]
    if not tools:
        return None
    signs = [orjson.dumps(name) for name in _named_in(tools)] or [b'"container_id"']
    for turn in reversed(chain.turns):
        if turn.account != NO_ACCOUNT and any(sign in turn.content for sign in signs):
            return turn.account
    return None


def is_upstreams(turn: Turn, account: str) -> bool:
    """Whether this account's upstream made the turn, and so knows its id where it keeps what it makes.

    This gateway made what has no output, as a warm-up, and what has a compaction of its own in it.
    """
    made = [item for item in turn.items if item.is_output] if turn.account == account else []
    return bool(made) and not any(item.type == "compaction" and sealed_in(decode(item.content)) for item in made)


def _is_bound(item: Item) -> bool:
    # What a model made of a file names it too, and is only left out elsewhere.
    return not item.is_output and item.account not in {None, NO_ACCOUNT}


def _names(value: Any) -> bool:
    """Whether somewhere in this one of the members above holds a name, or several."""
    return next(_named_in(value), None) is not None


def _named_in(value: Any) -> Iterator[str]:
    """The names that the members above hold somewhere in this."""
    if type(value) in ARRAYS:
        for each in value:
            yield from _named_in(each)
        return
    if not isinstance(value, Mapping) or value.get("role") == "assistant" or str(value.get("type")) in _FREE:
        return
    for name, member in value.items():
        if name not in _NAMING or isinstance(member, Mapping):
            yield from _named_in(member)
        elif isinstance(member, str | list) and member:
            yield from [each for each in ([member] if isinstance(member, str) else member) if isinstance(each, str)]
