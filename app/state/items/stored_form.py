"""Convert items to the form in which they are stored: with an id, and as a stateless upstream takes them back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from app.ids import new_item_id
from app.state.items.account_bound import item_names_account_bound
from app.state.items.compacted import is_sealed_reasoning, sealed_for, sealed_in
from app.state.records import NO_ACCOUNT, Item
from app.wire.json.sliced_decoder import decode
from app.wire.json_body import Json, elements_of, join_object, members
from app.wire.requests.input_items import TRIGGER, is_stub, item_type
from app.wire.responses.tool_secrets import TOOL_LISTS, without_secrets

# Only the account that made these can read them again: the first two are encrypted for it, the others name objects and
# runs that it owns.
_ENCRYPTED = frozenset({"reasoning", "compaction"})
_HOSTED = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "web_search_call",
    }
)
_BOUND = _ENCRYPTED | _HOSTED
# These types need an id; all other items are replayed without one.
_ID_IS_REQUIRED = _HOSTED | {"computer_call", "local_shell_call", "local_shell_call_output"}
_STATUS_IS_OPTIONAL = frozenset(
    {
        "custom_tool_call",
        "custom_tool_call_output",
        "function_call",
        "function_call_output",
        "message",
        "reasoning",
    }
)
# The member that pairs these types without a `call_id`. An approval answers its request as an output its call.
_PAIRED_BY = {
    "local_shell_call": "id",
    "local_shell_call_output": "id",
    "mcp_approval_request": "id",
    "mcp_approval_response": "approval_request_id",
}
_REASONING_CONTENT = ("content", "encrypted_content", "summary")
_DROPPED_OF_OTHERS = frozenset({"created_by", "id"})
# The members that are left out of an item when it is sent back, by its type.
_DROPPED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(_ID_IS_REQUIRED, frozenset({"created_by"})),
    **dict.fromkeys(_STATUS_IS_OPTIONAL, frozenset({"created_by", "id", "status"})),
}


def output_items(output: Sequence[bytes], account: str, status: str) -> tuple[Item, ...]:
    """Convert the output of a response that ended with this status to stored items, in order."""
    return tuple([_output_item(decode(raw), raw, account, status) for raw in output])


def input_items(given: str | Sequence[Any], raw: bytes | Json, resolved: Mapping[str, Item]) -> tuple[Item, ...]:
    """Convert the input of a turn to stored items: `given` is decoded and `raw` as sent.

    References and stubs become the items they stand for; triggers are dropped.
    """
    if isinstance(given, str):
        content = b"".join((b'{"type":"message","role":"user","content":', raw, b"}"))
        return (Item(id=new_item_id("message"), type="message", is_output=False, content=content),)
    times_named: Counter[str] = Counter()
    return tuple(
        _resolved(item, part, resolved, times_named) if resolved else _item(item, part)
        for item, part in zip(given, elements_of(given, raw), strict=True)
        if item.get("type") != TRIGGER
    )


def bind(items: Sequence[Item], account: str) -> tuple[Item, ...]:
    """Bind the input items of a turn to the account that served it, where only that account can have read them."""
    return tuple(
        [replace(item, account=account) if item.account is None and _is_bound(item) else item for item in items]
    )


def storable(items: Sequence[Item]) -> tuple[Item, ...]:
    """Remove the secrets of tools from items that bring tools: each request brings them anew."""
    return tuple([_without_secrets(item) if item.type in TOOL_LISTS else item for item in items])


def distinct(items: Sequence[Item], standing: Mapping[str, Item]) -> tuple[Item, ...]:
    """Return the items that are new beside those `standing`, each with an id that no other has.

    Repeated input is left out. A different item with a known id gets another id: some upstreams, and some clients,
    number their items anew in every turn.
    """
    seen = dict(standing)
    new: list[Item] = []
    for item in items:
        known = seen.get(item.id)
        if known is not None and not item.is_output and known.content == item.content:
            continue
        kept = item if known is None else replace(item, id=new_item_id(item.type))
        seen[kept.id] = kept
        new.append(kept)
    return tuple(new)


def _without_secrets(item: Item) -> Item:
    kept = orjson.loads(item.content)
    shown = without_secrets(kept)
    return item if shown == kept else replace(item, content=orjson.dumps(shown))


def _is_bound(item: Item) -> bool:
    if item.type == "compaction":
        return sealed_in(orjson.loads(item.content)) is None
    return item.type in _BOUND or item_names_account_bound(item.content)


def _item(item: Mapping[str, Any], raw: bytes, *, is_output: bool = False, account: str | None = None) -> Item:
    kind = item_type(item) or ""
    given_id = item.get("id")
    call_id = item.get("call_id")
    if call_id is None and kind in _PAIRED_BY:
        call_id = item.get(_PAIRED_BY[kind])
    if account is None and kind == "reasoning" and not (is_output or any(map(item.get, _REASONING_CONTENT))):
        # The item is empty, and the item it stood for is not stored here.
        account = NO_ACCOUNT
    elif account != NO_ACCOUNT and is_sealed_reasoning(item):
        # Whichever key it was made with.
        account = sealed_for(account)
    return Item(
        id=given_id if isinstance(given_id, str) and given_id else new_item_id(kind),
        type=kind,
        is_output=is_output,
        content=_replay_form(item, kind, raw),
        account=account,
        call_id=call_id if isinstance(call_id, str) else None,
    )


def _resolved(item: Mapping[str, Any], raw: bytes, resolved: Mapping[str, Item], times_named: Counter[str]) -> Item:
    """Return the item that this one is or stands for; `times_named` counts how often each id was named before."""
    stored, kind = resolved.get(item.get("id") or ""), item_type(item)
    if stored is None or kind not in (stored.type, "item_reference"):
        return _item(item, raw)
    if kind == "item_reference" or is_stub(item):
        # Where several items of one response have the id, each mention means the next one.
        alike = (*stored.twins, stored)
        chosen = alike[min(times_named[stored.id], len(alike) - 1)]
        times_named[stored.id] += 1
        return replace(chosen, is_output=False, twins=())
    # The client has sent the whole item; only the store knows its account.
    return replace(_item(item, raw, account=stored.account or None), served_by=stored.served_by)


def _output_item(item: Mapping[str, Any], raw: bytes, account: str, status: str) -> Item:
    return _item(item, raw, is_output=True, account=_reader(item, account, status))


def _replay_form(item: Mapping[str, Any], kind: str, raw: bytes) -> bytes:
    dropped = _DROPPED.get(kind, _DROPPED_OF_OTHERS)
    if dropped.isdisjoint(item):
        return raw
    sent = members(raw)
    for name in dropped:
        sent.pop(name, None)
    return join_object(sent)


def _reader(item: Mapping[str, Any], account: str, status: str) -> str | None:
    kind = item_type(item)
    # The text of an unfinished message is context; an unfinished call or reasoning is not valid input. In a completed
    # response nothing is unfinished: an item that says so (a call that waits for its output) was made all the same.
    if status != "completed" and kind != "message" and item.get("status") in ("in_progress", "incomplete"):
        return NO_ACCOUNT
    if kind == "reasoning" and not item.get("encrypted_content") and not item.get("content"):
        return NO_ACCOUNT
    return account if kind in _BOUND and sealed_in(item) is None else None
