"""Check the `metadata` that a client sets on a response or a conversation."""

from typing import Any

from app.wire import error_messages
from app.wire.requests.value_checks import string

MOST_PAIRS = 16
LONGEST_KEY = 64

VALUE = string(maximum=512)


def check_metadata(value: Any, path: str) -> None:
    """Check the pairs and their lengths. InvalidRequestError names the first fault."""
    if type(value) is not dict:
        raise error_messages.invalid_type(path, value, "a metadata object")
    if len(value) > MOST_PAIRS:
        raise error_messages.too_many_properties(path, MOST_PAIRS, len(value))
    for name, text in value.items():
        if len(name) > LONGEST_KEY:
            raise error_messages.property_name_too_long(path, name, LONGEST_KEY)
        VALUE(text, f"{path}.{name}")
