"""What pydantic finds wrong with a body or a query, in OpenAI's words. It quotes no text of it: that may be a key."""

from collections.abc import Mapping, Sequence

from pydantic_core import ErrorDetails

from app.errors import InvalidRequestError
from app.wire import wording

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


def refusal(fault: ErrorDetails) -> InvalidRequestError:
    """The refusal of the member that is at fault, by its path."""
    path = _path_of(fault["loc"])
    kind, given, bounds = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return wording.unknown_parameter(path)
    if kind == "missing":
        return wording.missing(path)
    name, _, rule = kind.partition("_")
    if rule in {"type", "parsing", "from_float"} and name in _EXPECTED:
        return wording.invalid_type(path, given, _EXPECTED[name])
    if kind == "greater_than_equal":
        return wording.below_minimum(path, "integer", bounds["ge"], given)
    if kind == "less_than_equal":
        return wording.above_maximum(path, "integer", bounds["le"], given)
    if kind == "string_too_long":
        return wording.too_long(path, bounds["max_length"], given)
    reason = fault["msg"].removeprefix("Value error, ")
    return InvalidRequestError(f"Invalid '{path}': {reason[0].lower()}{reason[1:]}.", code="invalid_value", param=path)


def _path_of(places: Sequence[int | str]) -> str:
    """`("limits", "budgets", 0, "usd")` as clients write it: limits.budgets[0].usd."""
    path = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return path.removeprefix(".")[:_QUOTED]
