"""Page through items, as the list endpoints do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from msgspec.structs import replace

from app.errors import InvalidRequestError
from app.state.items.history_input import without_duplicates, without_failed
from app.state.items.listed_form import item_as_listed
from app.state.records import Chain, Item

DEFAULT_LIMIT = 20

# A page of large items ends early: the next page has the rest.
_PAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Ask for a page: `after` and `before` are item ids, in the given order."""

    limit: int = DEFAULT_LIMIT
    ascending: bool = False
    after: str | None = None
    before: str | None = None

    @property
    def is_read_back(self) -> bool:
        """Tell whether the page is the one that ends at its cursor, as `before` alone asks for."""
        return bool(self.before and not self.after)


def input_of(chain: Chain) -> tuple[Item, ...]:
    """Return the input of the latest response: all earlier turns and its own input; oldest first, each item once."""
    *earlier, latest = chain.turns
    items = [item for turn in without_failed(earlier) for item in turn.items]
    items += [item for item in latest.items if not item.is_output]
    return _with_unique_ids(without_duplicates(items))


def _with_unique_ids(items: Sequence[Item]) -> tuple[Item, ...]:
    """Give each item an id that no other has, the same on every page: an id is a cursor."""
    taken = {item.id for item in items}
    if len(taken) == len(items):
        return tuple(items)
    times: Counter[str] = Counter()
    unique: list[Item] = []
    for item in items:
        name = item.id
        times[name] += 1
        while times[item.id] > 1 and name in taken:
            name = f"{item.id}_{times[item.id]}"
            times[item.id] += name in taken
        taken.add(name)
        unique.append(item if name == item.id else replace(item, id=name))
    return tuple(unique)


def page(items: Sequence[Item], query: PageQuery) -> bytes:
    """Write the list object for this page of items (given oldest first). InvalidRequestError for an unknown cursor."""
    by_id = {item.id: item for item in items}
    shown, has_more = choose(list(by_id), query, {item.id: len(item.content) for item in items})
    return listing([by_id[item_id] for item_id in shown], has_more=has_more)


def choose(ids: Sequence[str], query: PageQuery, sizes: Mapping[str, int]) -> tuple[Sequence[str], bool]:
    """Choose the ids of this page (given oldest first); tell whether more follow. Raises InvalidRequestError.

    By their `sizes` in bytes the page may be cut short. The error is of an unknown cursor.
    """
    ordered = ids if query.ascending else ids[::-1]
    places = {item_id: place for place, item_id in enumerate(ordered)}
    start = _place(places, query.after, "after", default=-1) + 1
    end = _place(places, query.before, "before", default=len(ordered))
    between = ordered[start:end]
    if query.is_read_back:
        shown = between[-query.limit :]
        shown = shown[len(shown) - fitting([sizes[item_id] for item_id in shown[::-1]]) :]
    else:
        shown = between[: query.limit]
        shown = shown[: fitting([sizes[item_id] for item_id in shown])]
    return shown, len(shown) < len(between)


def fitting(lengths: Sequence[int]) -> int:
    """Count the items of these lengths that a page has room for; always one at least."""
    room = _PAGE_BYTES
    for number, length in enumerate(lengths):
        room -= length
        if room < 0 < number:
            return number
    return len(lengths)


def unknown_cursor(name: str, item_id: str) -> InvalidRequestError:
    """Make the error for a cursor item that is not in the list."""
    return InvalidRequestError(f"Invalid '{name}': no item with id '{item_id[:100]}' in this list.", param=name)


def listing(shown: Sequence[Item], *, has_more: bool) -> bytes:
    """Write the list object of these items, in this order."""
    # Joined once: a page may weigh as much as all else that its call holds.
    parts = [b'{"object":"list","data":[']
    for item in shown:
        parts += (item_as_listed(item), b",")
    if shown:
        parts.pop()
    ends = [orjson.dumps(item.id) for item in (shown[0], shown[-1])] if shown else [b"null", b"null"]
    parts.append(b'],"first_id":%b,"last_id":%b,"has_more":%b}' % (*ends, orjson.dumps(has_more)))
    return b"".join(parts)


def _place(places: dict[str, int], item_id: str | None, name: str, default: int) -> int:
    if item_id is None:
        return default
    place = places.get(item_id)
    if place is None:
        raise unknown_cursor(name, item_id)
    return place
