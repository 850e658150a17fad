"""Read some items out of stored turns: their sizes first, and of the turns one after the other what is wanted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Select

from app.state.records import Item, Outline, Turn

# Keys asked for in one statement, as drivers limit its parameters; and the content that it may return with several.
_KEYS_AT_ONCE = 1000
_BYTES_AT_ONCE = 256 * 1024

_OUTLINE = msgspec.msgpack.Decoder(Outline)


@dataclass(slots=True)
class Wanted:
    """What is wanted of one turn: the items at these places. `length` is that of its content."""

    key: int
    outline: Outline
    length: int
    places: list[int]


def pick(
    connection: Connection, contents: Select[Any], wanted: Sequence[Wanted], most: int
) -> tuple[int, dict[tuple[int, int], Item]]:
    """The items by their turn's key and their place in it, and the bytes that reading them takes.

    Where that is more than `most` nothing is read. `contents` selects key, outline and content of the turns with these
    `keys`.
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
            measured, read = of_key[key], Turn(_OUTLINE.decode(outline), content)
            if read.outline.ids == measured.outline.ids:
                found.update({(key, place): item for place, item in read.some(frozenset(measured.places)).items()})
                continue
            # Another item may have been taken out of it since.
            wanted_ids = {measured.outline.ids[place]: place for place in measured.places}
            places = [place for place, item_id in enumerate(read.outline.ids) if item_id in wanted_ids]
            for item in read.some(frozenset(places)).values():
                found[key, wanted_ids[item.id]] = item
    return size, found


def _batches(wanted: Iterable[Wanted]) -> Iterator[list[int]]:
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
