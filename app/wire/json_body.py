"""Decode JSON bodies once to be checked; split and join JSON as bytes to be sent on.

A `Json` is one value as it was sent: `bytes(value)` copies it out, and until then it is a view of the whole body.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import orjson

from app.errors import InvalidRequestError
from app.wire.error_messages import not_json, type_name
from app.wire.json import sliced_decoder
from app.wire.json.sliced_decoder import Elements, SlicedDecoder
from app.wire.json.tokenizer import DEEPEST, NotJsonError, is_deeper

Json = sliced_decoder.Json

_OBJECT = msgspec.json.Decoder(dict[str, Json])
_ARRAY = msgspec.json.Decoder(list[Json])
_VALUE = msgspec.json.Decoder(Json)
_ENCODER = msgspec.json.Encoder()
_BEGINS, _ENDS = Json(b"["), Json(b"]")

LARGE_BYTES = 64 * 1024
"""Smaller documents are never large: work on them takes the event loop a few milliseconds at most."""

HUGE_BYTES = 1_000_000
"""Documents of this size are large, whatever they hold."""

# Between the two a document is large by its count of values, nearly all of which stand behind a comma.
_MANY_COMMAS = 5_000
# Values weigh far more decoded than sent (7,000,000 lists: 600 MB).
_MOST_VALUES = 1_000_000


def is_large(raw: bytes) -> bool:
    """Tell whether work on this document would hold up every other call, and is for `app.runtime.compute_thread`."""
    size = len(raw)
    return size >= LARGE_BYTES and (size >= HUGE_BYTES or raw.count(b",") > _MANY_COMMAS)


def read_object(
    raw: bytes, max_depth: int, known: Collection[str], split: str
) -> tuple[dict[str, Any], dict[str, Json], bool]:
    """Return the members of an object, decoded as `decode_object` does and as sent, and whether the object is large.

    In a large object the large members that are not `known` stay undecoded, and the array named `split` is `Elements`.
    """
    if not is_large(raw):
        return decode_object(raw, max_depth), members(raw), False
    _check_values(raw)
    try:
        decoder = SlicedDecoder(raw, max_depth)
        found = decoder.members(known, split)
        if found is not None and not decoder.is_too_deep:
            return *found, True
        # A document that is no object gets that error, unless it is nested too deep for any.
        decoder = SlicedDecoder(raw, DEEPEST)
        document = decoder.document() if found is None else None
    except NotJsonError:
        raise not_json() from None
    raise _too_deep(max_depth) if found is not None or decoder.is_too_deep else _no_object(document)


def decode_object(raw: bytes, max_depth: int) -> dict[str, Any]:
    """Decode an object, which is level 1 of at most `max_depth`; the last value of a repeated key counts.

    Raises InvalidRequestError (400) for what is not strict JSON in UTF-8 (no BOM, NaN, infinite numbers or lone
    surrogates), is no object, is nested deeper, or holds too many values.
    """
    containers = raw.count(b"{") + raw.count(b"[")
    _check_values(raw)
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # orjson has a limit of its own, far above ours: the same mistake gets the same error.
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
    """Split a valid JSON object into its members, each value as it was sent; the last of a repeated key."""
    return _OBJECT.decode(raw)


def elements(raw: bytes | Json) -> list[bytes]:
    """Split a valid JSON array into its elements, each as it was sent."""
    return [bytes(value) for value in _ARRAY.decode(raw)]


def elements_of(array: Collection[Any], raw: bytes | Json) -> Iterable[bytes]:
    """Split an array that was decoded to `array`, from what was kept of it where it is large."""
    return map(bytes, array.sent) if isinstance(array, Elements) else elements(raw)


def check_depth(raw: bytes) -> None:
    """Raise RecursionError for valid JSON that is nested deeper than can be split."""
    _VALUE.decode(raw)


def is_json(raw: bytes) -> bool:
    """Tell whether this is strict JSON: splitting does not check the values."""
    return sliced_decoder.is_json(raw)


def join_object(members: Mapping[str, Json]) -> bytes:
    """Join JSON values to an object: the inverse of `members`."""
    return _ENCODER.encode(members)


def join_around(members: Mapping[str, Json], name: str, elements: Iterable[bytes]) -> bytes:
    """Join an object as `join_object`, with an array of `elements` as the member `name`, which are copied once."""
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
    # While Python joins many bytes objects it lets other threads run.
    return b"".join(parts)


def join_array(elements: Iterable[bytes]) -> bytes:
    """Join JSON values to an array: the inverse of `elements`."""
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
