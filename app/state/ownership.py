"""Which calls name things that only one upstream account has: files, vector stores, containers, prompt templates."""

import re
from collections.abc import Mapping
from typing import Any

from app.state.records import NO_ACCOUNT, Chain, Item
from app.wire.slices import Elements, decode, holds

_FILE_ID = b'"file_id"'
_NAMED = re.compile(_FILE_ID)
_NAMING = frozenset({"file_id", "file_ids", "vector_store_ids", "container", "container_id"})
# Their schemas may have members of any name, which name nothing.
_FREE = frozenset({"function", "custom"})


def names_owned(fields: Mapping[str, Any], given: bytes | memoryview) -> bool:
    """Whether a decoded request names such a thing; `given` is its input as it was sent."""
    if fields.get("prompt") is not None:
        return True
    tools = fields.get("tools")
    if tools and any(tool.get("type") not in _FREE and _names(tool) for tool in tools):
        return True
    return holds(given, _NAMED) and _names(fields.get("input"))


def item_names_owned(content: bytes) -> bool:
    """Whether this input item does."""
    return _FILE_ID in content and _names(decode(content))


def chain_names_owned(chain: Chain) -> bool:
    """Whether a client has named such a thing in an earlier turn."""
    return any(
        turn.outline.reader is not None
        and _FILE_ID in turn.content
        and any(_is_bound(item) and item_names_owned(item.content) for item in turn.items)
        for turn in chain.turns
    )


def _is_bound(item: Item) -> bool:
    # What a model made of a file names it too, and is only left out elsewhere.
    return not item.is_output and item.account not in {None, NO_ACCOUNT}


def _names(value: Any) -> bool:
    """Whether somewhere in this one of the members above holds a name, or several."""
    if isinstance(value, list | Elements):
        return any(map(_names, value))
    if not isinstance(value, Mapping) or value.get("role") == "assistant":
        return False
    return any(
        (name in _NAMING and bool(member) and isinstance(member, str | list)) or _names(member)
        for name, member in value.items()
    )
