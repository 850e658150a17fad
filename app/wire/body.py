"""JSON bodies: decoded once to be read, split and joined as bytes to be sent on. Must not know what a member means.

A `Json` is one value as it was sent: `bytes(value)` copies it out, and until then it is a view of the whole body.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import orjson

from app.errors import InvalidRequestError
from app.wire import slices
from app.wire.slices import Elements, Reader
from app.wire.tokens import DEEPEST, NotJsonError, is_deeper
from app.wire.wording import not_json, type_name

Json = slices.Json

_OBJECT = msgspec.json.Decoder(dict[str, Json])
_ARRAY = msgspec.json.Decoder(list[Json])
_VALUE = msgspec.json.Decoder(Json)
_ENCODER = msgspec.json.Encoder()
_BEGINS, _ENDS = Json(b"["), Json(b"]")

LARGE_BYTES = 64 * 1024
"""Below this nothing is large: work on it takes the event loop a few milliseconds at most."""

HUGE_BYTES = 1_000_000
"""From here on all is large, whatever it holds."""

# What is large below that, by its values, each of which is looked at. Nearly all stand behind a comma.
_MANY_COMMAS = 5_000
_SPLITTABLE_LEVELS = 200
# Values weigh far more decoded than sent (7,000,000 lists: 600 MB).
_MOST_VALUES = 1_000_000


def is_large(raw: bytes) -> bool:
    """Whether work on this document would hold up every other call of the process: see `app.offload`."""
    size = len(raw)
    return size >= LARGE_BYTES and (size >= HUGE_BYTES or raw.count(b",") > _MANY_COMMAS)


def read_object(
    raw: bytes, max_depth: int, known: Collection[str], split: str
) -> tuple[dict[str, Any], dict[str, Json], bool]:
    """The members of an object, decoded as `decode_object` does, with its refusals, and as sent; and if it is large.

    Of a large object the large members that are not `known` stay as they were sent among the decoded, too, and the
    array named `split` is `Elements`.
    """
    if not is_large(raw):
        return decode_object(raw, max_depth), members(raw), False
    _check_values(raw)
    try:
        reader = Reader(raw, max_depth)
        found = reader.members(known, split)
        if found is not None and not reader.is_too_deep:
            return *found, True
        # What is no object is refused as such, unless it is nested deeper than any may be.
        reader = Reader(raw, DEEPEST)
        document = reader.document() if found is None else None
    except NotJsonError:
        raise not_json() from None
    raise _too_deep(max_depth) if found is not None or reader.is_too_deep else _no_object(document)


def decode_object(raw: bytes, max_depth: int) -> dict[str, Any]:
    """The decoded object, which is level 1 of at most `max_depth`; of a repeated key the last value.

    InvalidRequestError (400) for what is not strict JSON in UTF-8 (BOM, NaN, infinite numbers and lone surrogates are
    not), is not an object, is nested deeper, or holds too many values.
    """
    containers = raw.count(b"{") + raw.count(b"[")
    _check_values(raw)
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # orjson has a limit of its own, far above ours: the same mistake deserves the same answer.
        if error.msg.startswith("depth limit"):
            raise _too_deep(max_depth) from None
        raise not_json() from None
    if not isinstance(document, dict):
        raise _no_object(document)
    # Fewer brackets than levels allowed cannot nest too deep, wherever they stand.
    if containers > max_depth and is_deeper(document, max_depth):
        raise _too_deep(max_depth)
    return document


def members(raw: bytes | Json) -> dict[str, Json]:
    """The members of a JSON object known to be valid, each value as it was sent; of a repeated key the last."""
    return _OBJECT.decode(raw)


def elements(raw: bytes | Json) -> list[bytes]:
    """The elements of a JSON array known to be valid, each as it was sent."""
    return [bytes(value) for value in _ARRAY.decode(raw)]


def elements_of(array: Collection[Any], raw: bytes | Json) -> Iterable[bytes]:
    """The same of an array that was decoded to this."""
    return map(bytes, array.sent) if isinstance(array, Elements) else elements(raw)


def check_depth(raw: bytes) -> None:
    """Raise RecursionError for valid JSON that is nested deeper than can be split."""
    # So many levels can always be split, and fewer brackets than that cannot be nested deeper, wherever they stand.
    if raw.count(b"{") + raw.count(b"[") > _SPLITTABLE_LEVELS:
        _VALUE.decode(raw)


def is_json(raw: bytes) -> bool:
    """Whether this is strict JSON: splitting does not look into the values."""
    return slices.is_json(raw)


def join_object(members: Mapping[str, Json]) -> bytes:
    """The inverse of `members`: a JSON object of values that are already JSON."""
    return _ENCODER.encode(members)


def join_around(members: Mapping[str, Json], name: str, elements: Iterable[bytes]) -> bytes:
    """`join_object`, with an array of these elements in the place of the member `name`: they are copied once."""
    names = list(members)
    place = names.index(name)
    before: dict[str, Json] = {each: members[each] for each in names[:place]}
    after: dict[str, Json] = {each: members[each] for each in names[place + 1 :]}
    parts = [_ENCODER.encode({**before, name: _BEGINS})[:-1]]
    for element in elements:
        parts += (element, b",")
    if len(parts) > 1:
        parts.pop()
    whole = _ENCODER.encode({name: _ENDS, **after})
    parts.append(whole[whole.index(b":") + 1 :])
    # Of much that are bytes and nothing else Python lets other threads run meanwhile.
    return b"".join(parts)


def join_array(elements: Iterable[bytes]) -> bytes:
    """The inverse of `elements`: a JSON array of values that are already JSON."""
    return b"[%b]" % b",".join(elements)


def _check_values(raw: bytes) -> None:
    # A value is a container, the first thing in one, or stands behind a comma.
    if len(raw) > _MOST_VALUES and raw.count(b"{") + raw.count(b"[") + raw.count(b",") > _MOST_VALUES:
        raise InvalidRequestError(f"The JSON body of your request holds too many values: at most {_MOST_VALUES}.")


def _no_object(document: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid type for the request body: expected an object, but got {type_name(document)} instead.",
        code="invalid_type",
    )


def _too_deep(max_depth: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"The JSON body of your request is nested too deeply: at most {max_depth} levels are allowed."
    )
