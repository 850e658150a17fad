"""The `metadata` of a response or a conversation: what a client may note on it. Must not know what it is noted on."""

from typing import Any

from app.wire import wording
from app.wire.fields import string

_MOST_PAIRS = 16
_LONGEST_KEY = 64

_VALUE = string(maximum=512)


def check_metadata(value: Any, path: str) -> None:
    """Raise the InvalidRequestError that names the first fault: too many pairs, a long key, a long or odd value."""
    if type(value) is not dict:
        raise wording.invalid_type(path, value, "a metadata object")
    if len(value) > _MOST_PAIRS:
        raise wording.too_many_properties(path, _MOST_PAIRS, len(value))
    for name, text in value.items():
        if len(name) > _LONGEST_KEY:
            raise wording.property_name_too_long(path, name, _LONGEST_KEY)
        _VALUE(text, f"{path}.{name}")
