"""OpenAI's sentences for a request that breaks a rule: codes and wording, not which rule holds where."""

from collections.abc import Sequence
from typing import Any

from app.errors import InvalidRequestError, NotFoundError

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


def unsupported(path: str, where: str) -> InvalidRequestError:
    """A parameter that means something, but not here; `where` says it: "by this gateway yet", "with this model"."""
    return InvalidRequestError(
        f"Unsupported parameter: '{path}' is not supported {where}.", code="unsupported_parameter", param=path
    )


def moved(old: str, new: str) -> InvalidRequestError:
    """A parameter that has another name in this API. OpenAI gives no `param` here."""
    return InvalidRequestError(
        f"Unsupported parameter: '{old}'. In the Responses API, this parameter has moved to '{new}'.",
        code="unsupported_parameter",
    )


def unknown_model(name: str) -> InvalidRequestError:
    """No model has this name."""
    shown = name[:_LONGEST_QUOTE]
    return InvalidRequestError(f"The requested model '{shown}' does not exist.", code="model_not_found", param="model")


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
    return _invalid(path, f"{kind} below minimum value", f"a value >= {minimum}", value, f"{kind}_below_min_value")


def above_maximum(path: str, kind: str, maximum: float, value: float) -> InvalidRequestError:
    """`kind` is "integer" or "decimal"."""
    return _invalid(path, f"{kind} above maximum value", f"a value <= {maximum}", value, f"{kind}_above_max_value")


def empty(path: str, value: str | Sequence[Any]) -> InvalidRequestError:
    """A string or an array that must hold something holds nothing."""
    name = type_name(value)
    kind = name.split()[-1]
    return _invalid(path, f"empty {kind}", f"{name} with minimum length 1", f"an empty {kind}", f"empty_{kind}")


def too_long(path: str, maximum: int, value: str | Sequence[Any]) -> InvalidRequestError:
    """A string of more characters, or an array of more elements, than it may have."""
    name = type_name(value)
    kind = name.split()[-1]
    return _invalid(
        path,
        f"{kind} too long",
        f"{name} with maximum length {maximum}",
        f"{name} with length {len(value)}",
        f"{kind}_above_max_length",
    )


def too_many_properties(path: str, maximum: int, count: int) -> InvalidRequestError:
    """An object with more members than it may have."""
    return _invalid(
        path,
        "too many properties",
        f"an object with at most {maximum} properties",
        f"an object with {count} properties",
        "object_above_max_properties",
    )


def pattern_mismatch(path: str, pattern: str) -> InvalidRequestError:
    """`pattern` is the regular expression, as OpenAI prints it."""
    return InvalidRequestError(
        f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '{pattern}'.",
        code="invalid_value",
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


def unanswered_call(call_type: str, call_id: object) -> InvalidRequestError:
    """A call in the history without its output."""
    return InvalidRequestError(f"No tool output found for {call_type.replace('_', ' ')} {call_id}.", param="input")


def output_without_call(output_type: str, call_id: object) -> InvalidRequestError:
    """An output for a call that nobody made."""
    kind = output_type.replace("_", " ")
    return InvalidRequestError(f"No tool call found for {kind} with call_id {call_id}.", param="input")


def item_not_found(item_id: str, hint: str = "") -> NotFoundError:
    """An item that is named, and that is not kept here."""
    return NotFoundError(f"Item with id '{item_id}' not found.{hint}")


def previous_response_not_found(response_id: str) -> InvalidRequestError:
    """A response that is chained to, and that is not kept here, or no longer with all that it builds on."""
    return InvalidRequestError(
        f"Previous response with id '{response_id}' not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def _invalid(path: str, fault: str, expected: str, got: object, code: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}': {fault}. Expected {expected}, but got {got} instead.", code=code, param=path
    )


def _quoted(text: str) -> str:
    return text[:_LONGEST_QUOTE]
