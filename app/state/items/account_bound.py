"""Find calls that name what only one upstream account has: files, vector stores, containers, prompt templates."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from app.state.items.compacted import sealed_in
from app.state.records import NO_ACCOUNT, Chain, Item, Turn
from app.wire.json.sliced_decoder import ARRAYS, decode, holds

_NAMING = frozenset({"file_id", "file_ids", "vector_store_ids", "container", "container_id"})
# Every text with one of those members contains one of these, also where letters are written as escapes.
_SIGNS = (b"file_id", b"vector_store", b'"container', rb"\u005", rb"\u006", rb"\u007")
# Their schemas may have members of any name, which are no references.
_FREE_FORM = frozenset({"function", "custom"})
# The members of a tool that say where it runs.
_HOSTING = ("container", "environment")
_APPROVAL = "mcp_approval_response"


def names_account_bound(fields: Mapping[str, Any], given: bytes | memoryview) -> bool:
    """Tell whether a decoded request names something account-bound; `given` is its input as it was sent."""
    if fields.get("prompt") is not None:
        return True
    tools = fields.get("tools")
    if tools and any(tool.get("type") not in _FREE_FORM and _names(tool) for tool in tools):
        return True
    return bool(given) and holds(given, _SIGNS) and _names(fields.get("input"))


def item_names_account_bound(content: bytes) -> bool:
    """Tell whether this input item names something account-bound."""
    return holds(content, _SIGNS) and _names(decode(content))


def chain_names_account_bound(chain: Chain) -> bool:
    """Tell whether a client named something account-bound in an earlier turn."""
    return any(
        turn.outline.reader is not None
        and holds(turn.content, _SIGNS)
        and any(_may_be_bound(item) and item_names_account_bound(item.content) for item in turn.items)
        for turn in chain.turns
    )


def asked_for_approval(items: Iterable[Item], resolved: Mapping[str, Item]) -> str | None:
    """Return the account with the approval request that one of these new items answers; None where unknown."""
    for item in items:
        request = resolved.get(item.call_id or "") if item.type == _APPROVAL else None
        if request is not None and request.account:
            return request.account
    return None


def has_container(fields: Mapping[str, Any], chain: Chain) -> str | None:
    """Return the account with the container that this request's tools name or continue in, as far as the chain shows.

    It may not be the account that served the chain's latest turn.
    """
    tools = [tool for tool in fields.get("tools") or () if any(map(tool.get, _HOSTING))]
    if not tools:
        return None
    signs = [orjson.dumps(name) for name in _named_in(tools)] or [b'"container_id"']
    for turn in reversed(chain.turns):
        if turn.account != NO_ACCOUNT and any(sign in turn.content for sign in signs):
            return turn.account
    return None


def was_made_by_upstream(turn: Turn, account: str) -> bool:
    """Tell whether this account's upstream made the turn, and so knows its id where it stores responses.

    This gateway made turns without output (warm-ups), and turns with a compaction of its own.
    """
    outputs = [item for item in turn.items if item.is_output] if turn.account == account else []
    return bool(outputs) and not any(item.type == "compaction" and sealed_in(decode(item.content)) for item in outputs)


def _may_be_bound(item: Item) -> bool:
    # Output that names a file needs no binding: it is left out for other accounts.
    return not item.is_output and item.account not in {None, NO_ACCOUNT}


def _names(value: Any) -> bool:
    """Tell whether one of the members above holds a name, or several, anywhere in this value."""
    return next(_named_in(value), None) is not None


def _named_in(value: Any) -> Iterator[str]:
    """Find the names that the members above hold anywhere in this value."""
    if type(value) in ARRAYS:
        for each in value:
            yield from _named_in(each)
        return
    if not isinstance(value, Mapping) or value.get("role") == "assistant" or str(value.get("type")) in _FREE_FORM:
        return
    for name, member in value.items():
        if name not in _NAMING or isinstance(member, Mapping):
            yield from _named_in(member)
        elif isinstance(member, str | list) and member:
            yield from [each for each in ([member] if isinstance(member, str) else member) if isinstance(each, str)]
