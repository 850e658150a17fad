"""Find the stored items that an input refers to (references, stubs, approvals), looking at each item once."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from app.state.records import Chain, Item
from app.wire.json.sliced_decoder import ARRAYS
from app.wire.requests.input_items import TRIGGER, is_bare, is_stub, item_type

_APPROVAL, _REQUEST = "mcp_approval_response", "mcp_approval_request"
# Types of items that are relevant without an id.
_WITHOUT_ID = frozenset({TRIGGER, _APPROVAL})
# The members of a call that may name a container, which one account has.
_HOSTED = ("container_id", "environment")


@dataclass(frozen=True, slots=True)
class References:
    """Collect the `ids` to look up; a call that `needs` one is refused when that item is not found.

    `has_stubs`: some items are incomplete, and are not to be sent as they came. `has_triggers`: some ask for a
    compaction and are no content; `asks_compaction`: the last one does.
    """

    ids: AbstractSet[str] = frozenset()
    needs: AbstractSet[str] = frozenset()
    has_stubs: bool = False
    has_triggers: bool = False
    asks_compaction: bool = False


_NONE = References()


def references(given: Any) -> References:
    """Find what this decoded input refers to."""
    if type(given) not in ARRAYS:
        return _NONE
    # Nearly all items refer to nothing, and cost no more than this.
    relevant = [item for item in given if item.get("id") or item.get("type") in _WITHOUT_ID]
    if not relevant:
        return _NONE
    needs: set[str] = set()
    stubs: set[str] = set()
    hosted: set[str] = set()
    for item in relevant:
        kind, item_id = item.get("type"), item.get("id")
        if kind == _APPROVAL:
            # Upstream checks the id's type.
            hosted.add(str(item.get("approval_request_id")))
        elif kind == TRIGGER:
            continue
        elif item_type(item) == "item_reference" or (kind != "reasoning" and is_bare(item)):
            needs.add(item_id)
        elif is_stub(item):
            stubs.add(item_id)
        elif any(map(item.get, _HOSTED)):
            hosted.add(item_id)
    return References(
        # An approval request in the same input need not be looked up.
        ids=needs | stubs | (hosted - _requests(relevant)),
        needs=needs,
        has_stubs=bool(needs or stubs),
        has_triggers=any(item.get("type") == TRIGGER for item in relevant),
        asks_compaction=given[-1].get("type") == TRIGGER,
    )


def items_in_chain(chain: Chain | None, ids: AbstractSet[str]) -> dict[str, Item]:
    """Find these items in the chain, each in its latest version. Failed turns are skipped."""
    found: dict[str, Item] = {}
    for turn in chain.turns if chain else ():
        if turn.status != "failed" and not ids.isdisjoint(turn.outline.ids):
            places = [place for place, item_id in enumerate(turn.outline.ids) if item_id in ids]
            items = turn.items_at(frozenset(places)).values()
            found.update(by_id([replace(item, served_by=turn.account or None) for item in items]))
    return found


def by_id(items: Iterable[Item]) -> dict[str, Item]:
    """Index the items of one turn by id; of several with one id the last, with the others as its twins."""
    alike: dict[str, list[Item]] = {}
    for item in items:
        alike.setdefault(item.id, []).append(item)
    return {
        item_id: replace(last, twins=tuple(before)) if before else last for item_id, (*before, last) in alike.items()
    }


def _requests(items: Iterable[Mapping[str, Any]]) -> set[str]:
    return {item["id"] for item in items if item.get("type") == _REQUEST}
