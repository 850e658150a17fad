"""Turn a refused edit into an error: a conflict with another editor, or pydantic's finding in OpenAI's words.

No value of a body is quoted: it may be a key.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from app.errors import ConflictError, InvalidRequestError
from app.wire import error_messages


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of `after` that differ from `before`, each as the audit log keeps it: `{"from", "to"}`."""
    return {name: {"from": before.get(name), "to": value} for name, value in after.items() if value != before.get(name)}


def being_erased(name: str) -> ConflictError:
    """Make the error (409) for a change of a project that is being erased."""
    return ConflictError(f"The project {name!r} is being erased.", param="project_id")


def changed_meanwhile(noun: str) -> ConflictError:
    """Make the error (409) for an edit of a version that is not the current one."""
    return ConflictError(
        f"This {noun} was changed by somebody else meanwhile. Read it again, and make your change to that.",
        param="version",
    )


_QUOTED = 100
_EXPECTED: Mapping[str, str] = {
    "string": "a string",
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "list": "an array",
    "tuple": "an array",
    "dict": "an object",
    "model": "an object",
}


def validation_error(fault: ErrorDetails) -> InvalidRequestError:
    """Make the error (400) for pydantic's finding, which names the member by its path."""
    path = _path_of(fault["loc"])
    kind, given, bounds = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return error_messages.unknown_parameter(path)
    if kind == "missing":
        return error_messages.missing(path)
    name, _, rule = kind.partition("_")
    if rule in {"type", "parsing", "from_float"} and name in _EXPECTED:
        return error_messages.invalid_type(path, given, _EXPECTED[name])
    if kind == "greater_than_equal":
        return error_messages.below_minimum(path, "integer", bounds["ge"], given)
    if kind == "less_than_equal":
        return error_messages.above_maximum(path, "integer", bounds["le"], given)
    if kind == "string_too_long":
        return error_messages.too_long(path, bounds["max_length"], given)
    reason = fault["msg"].removeprefix("Value error, ")
    return InvalidRequestError(f"Invalid '{path}': {reason[0].lower()}{reason[1:]}.", code="invalid_value", param=path)


def _path_of(places: Sequence[int | str]) -> str:
    """Render a path as clients write it: `("limits", "budgets", 0, "usd")` is limits.budgets[0].usd."""
    path = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return path.removeprefix(".")[:_QUOTED]
