"""OpenAI's sentences for a request that breaks a rule (spec §6.2): codes and wording, not which rule holds where."""

from collections.abc import Sequence
from typing import Any

from app.errors import InvalidRequestError

_LONGEST_QUOTE = 100

_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    type(None): "null",
}


def type_name(value: Any) -> str:
    """The name of a decoded JSON value's type, with its article."""
    return _NAMES[type(value)]


def invalid_type(path: str, value: Any, expected: str) -> InvalidRequestError:
    """`expected` is a noun phrase: "a string", "one of a string or array"."""
    # OpenAI calls a null an object where it refuses one at top level.
    got = "an object" if value is None and not {".", "["}.intersection(path) else type_name(value)
    return InvalidRequestError(
        f"Invalid type for '{path}': expected {expected}, but got {got} instead.", code="invalid_type", param=path
    )


def missing(path: str) -> InvalidRequestError:
    """A required parameter or member is absent."""
    return InvalidRequestError(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def unsupported(path: str, message: str) -> InvalidRequestError:
    """A parameter that means something, but nothing this gateway does."""
    return InvalidRequestError(message, code="unsupported_parameter", param=path)


def invalid_value(path: str, value: str, supported: Sequence[str]) -> InvalidRequestError:
    """The value is outside an enum of two or more."""
    *names, last = [f"'{name}'" for name in supported]
    # No comma before "and" where there are only two: that is how OpenAI writes it.
    head = ", ".join(names) + ("," if names[1:] else "")
    return InvalidRequestError(
        f"Invalid value: '{_quoted(value)}'. Supported values are: {head} and {last}.",
        code="invalid_value",
        param=path,
    )


def below_minimum(path: str, kind: str, minimum: float, value: float) -> InvalidRequestError:
    """`kind` is "integer" or "decimal"."""
    return InvalidRequestError(
        f"Invalid '{path}': {kind} below minimum value. Expected a value >= {minimum}, but got {value} instead.",
        code=f"{kind}_below_min_value",
        param=path,
    )


def above_maximum(path: str, kind: str, maximum: float, value: float) -> InvalidRequestError:
    """`kind` is "integer" or "decimal"."""
    return InvalidRequestError(
        f"Invalid '{path}': {kind} above maximum value. Expected a value <= {maximum}, but got {value} instead.",
        code=f"{kind}_above_max_value",
        param=path,
    )


def empty_string(path: str) -> InvalidRequestError:
    """A string that must say something says nothing."""
    return InvalidRequestError(
        f"Invalid '{path}': empty string. Expected a string with minimum length 1, but got an empty string instead.",
        code="empty_string",
        param=path,
    )


def string_too_long(path: str, maximum: int, length: int) -> InvalidRequestError:
    """Lengths are in characters."""
    return InvalidRequestError(
        f"Invalid '{path}': string too long. "
        f"Expected a string with maximum length {maximum}, but got a string with length {length} instead.",
        code="string_above_max_length",
        param=path,
    )


def pattern_mismatch(path: str, pattern: str) -> InvalidRequestError:
    """`pattern` is the regular expression, as OpenAI prints it."""
    return InvalidRequestError(
        f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '{pattern}'.",
        code="invalid_value",
        param=path,
    )


def array_too_short(path: str, minimum: int, length: int) -> InvalidRequestError:
    """Lengths are in elements."""
    return InvalidRequestError(
        f"Invalid '{path}': array too short. "
        f"Expected an array with minimum length {minimum}, but got an array with length {length} instead.",
        code="array_below_min_length",
        param=path,
    )


def too_many_properties(path: str, maximum: int, count: int) -> InvalidRequestError:
    """An object with more members than it may have."""
    return InvalidRequestError(
        f"Invalid '{path}': too many properties. "
        f"Expected an object with at most {maximum} properties, but got an object with {count} properties instead.",
        code="object_above_max_properties",
        param=path,
    )


def property_name_too_long(path: str, name: str, maximum: int) -> InvalidRequestError:
    """A key of a free-form object is too long; it is quoted short, in the message and in `param`."""
    return InvalidRequestError(
        f"Invalid property name in '{path}': '{_quoted(name)}' is too long. "
        f"Expected a string with maximum length {maximum}, but got a string with length {len(name)} instead.",
        code="string_above_max_length",
        param=f"{path}.{_quoted(name)}",
    )


def _quoted(text: str) -> str:
    return text[:_LONGEST_QUOTE]
