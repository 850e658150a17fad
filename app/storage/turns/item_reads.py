"""Read some items of stored turns: measure them first, then read turn by turn what is wanted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select

from app.state.records import Item, Outline, Turn, read_outline

# Most keys in one statement, as drivers limit its parameters; and most content of a statement with several keys.
_KEYS_AT_ONCE = 1000
_BYTES_AT_ONCE = 256 * 1024


@dataclass(slots=True)
class WantedItems:
    """Name the wanted items of one turn by their places. `length` is that of the turn's content in bytes."""

    key: int
    outline: Outline
    length: int
    places: list[int]


def read_items_of_turns(
    connection: Connection, contents: Select[Any], wanted: Sequence[WantedItems], most: int
) -> tuple[int, dict[tuple[int, int], Item]]:
    """Return the bytes that reading the items takes, and the items by their turn's key and their place in it.

    Over `most` nothing is read. `contents` selects key, outline and content of the turns with these `keys`.
    """
    size = max((turn.length for turn in wanted), default=0)
    for turn in wanted:
        lengths = turn.outline.lengths
        size += sum([lengths[place] for place in turn.places])
    if size > most:
        return size, {}
    of_key = {turn.key: turn for turn in wanted}
    found: dict[tuple[int, int], Item] = {}
    for keys in _batches(wanted):
        for key, outline, content in connection.execute(contents, {"keys": keys}):
            measured, read = of_key[key], Turn(read_outline(outline), content)
            if read.outline.ids == measured.outline.ids:
                found.update({(key, place): item for place, item in read.items_at(frozenset(measured.places)).items()})
                continue
            # Another item may have been removed from the turn since.
            wanted_ids = {measured.outline.ids[place]: place for place in measured.places}
            places = [place for place, item_id in enumerate(read.outline.ids) if item_id in wanted_ids]
            for item in read.items_at(frozenset(places)).values():
                found[key, wanted_ids[item.id]] = item
    return size, found


def _batches(wanted: Iterable[WantedItems]) -> Iterator[list[int]]:
    keys: list[int] = []
    size = 0
    for turn in wanted:
        if keys and (size + turn.length > _BYTES_AT_ONCE or len(keys) == _KEYS_AT_ONCE):
            yield keys
            keys, size = [], 0
        keys.append(turn.key)
        size += turn.length
    if keys:
        yield keys
