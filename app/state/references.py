"""What an input names in place of saying it: the stored items that it stands on, found in one look at each item."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from app.state.records import Chain, Item
from app.wire.input_items import TRIGGER, is_bare, is_stub, item_type
from app.wire.slices import ARRAYS

_APPROVAL, _REQUEST = "mcp_approval_response", "mcp_approval_request"
# Of these something is to be known, though they have no id.
_WITHOUT_ID = frozenset({TRIGGER, _APPROVAL})
# The members of a call that may name a container, which one account has.
_HOSTED = ("container_id", "environment")


@dataclass(frozen=True, slots=True)
class References:
    """The `ids` that are to be looked up; a call that `needs` one is refused when that is not there to see.

    `has_stubs`: some items are less than what they stand for, and are not to be sent as they came. `has_triggers`: some
    ask for something and say nothing; `asks_compaction`: the last one does.
    """

    ids: AbstractSet[str] = frozenset()
    needs: AbstractSet[str] = frozenset()
    has_stubs: bool = False
    has_triggers: bool = False
    asks_compaction: bool = False


_NONE = References()


def references(given: Any) -> References:
    """What this input names, decoded as it is."""
    if type(given) not in ARRAYS:
        return _NONE
    # Nearly all items name nothing, and cost no more than this.
    told = [item for item in given if item.get("id") or item.get("type") in _WITHOUT_ID]
    if not told:
        return _NONE
    needs: set[str] = set()
    stubs: set[str] = set()
    hosted: set[str] = set()
    for item in told:
        kind, item_id = item.get("type"), item.get("id")
        if kind == _APPROVAL:
            # Its type is upstream's to check.
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
        # A request that stands beside its approval need not be looked for.
        ids=needs | stubs | (hosted - _requests(told)),
        needs=needs,
        has_stubs=bool(needs or stubs),
        has_triggers=any(item.get("type") == TRIGGER for item in told),
        asks_compaction=given[-1].get("type") == TRIGGER,
    )


def standing(chain: Chain | None, ids: AbstractSet[str]) -> dict[str, Item]:
    """Those of these items that stand in the chain, each as it stands there last. What failed is not looked at."""
    found: dict[str, Item] = {}
    for turn in chain.turns if chain else ():
        if turn.status != "failed" and not ids.isdisjoint(turn.outline.ids):
            places = [place for place, item_id in enumerate(turn.outline.ids) if item_id in ids]
            items = turn.some(frozenset(places)).values()
            found.update(by_id([replace(item, served_by=turn.account or None) for item in items]))
    return found


def by_id(items: Iterable[Item]) -> dict[str, Item]:
    """These items of one turn by their ids; of several with one id the last, with the others as its twins."""
    alike: dict[str, list[Item]] = {}
    for item in items:
        alike.setdefault(item.id, []).append(item)
    return {
        item_id: replace(last, twins=tuple(before)) if before else last for item_id, (*before, last) in alike.items()
    }


def _requests(items: Iterable[Mapping[str, Any]]) -> set[str]:
    return {item["id"] for item in items if item.get("type") == _REQUEST}
