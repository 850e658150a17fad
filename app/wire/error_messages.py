"""Make OpenAI's errors for a request that breaks a rule: the code and the exact wording, not when the rule applies."""

from collections.abc import Sequence
from typing import Any

from app.errors import InvalidRequestError, NotFoundError
from app.wire.json.sliced_decoder import Elements

_LONGEST_QUOTE = 100
_LONGEST_ID = 512
# OpenAI writes 'pre..._id' for previous_response_id, where a sentence names what could have been sent.
_LONGEST_NAME = 16
_ENDS_SHOWN = 3

_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    Elements: "an array",
    type(None): "null",
}


def type_name(value: Any) -> str:
    """Return the name of a decoded JSON value's type, with its article."""
    return _NAMES[type(value)]


def invalid_type(path: str, value: Any, expected: str) -> InvalidRequestError:
    """Make the error for a value of a wrong type. `expected` is a noun phrase: "a string", "one of a string or ..."."""
    # OpenAI calls a null an object where it refuses one at top level.
    got = "an object" if value is None and not {".", "["}.intersection(path) else type_name(value)
    return InvalidRequestError(
        f"Invalid type for '{path}': expected {expected}, but got {got} instead.", code="invalid_type", param=path
    )


def one_of(names: Sequence[str]) -> str:
    """Write the noun phrase for one of these strings, for the error of a wrong type."""
    *others, last = [f"'{_abbreviated(name)}'" for name in names]
    return f"one of {', '.join(others)}{',' if others[1:] else ''} or {last}"


def not_json() -> InvalidRequestError:
    """Make the error for a body that is not strict JSON in UTF-8."""
    return InvalidRequestError(
        "Invalid body: failed to parse JSON value. Please check the value to ensure it is valid JSON. "
        "(Common errors include trailing commas, missing closing brackets, missing quotation marks, etc.)",
        code="invalid_json",
    )


def two_histories() -> InvalidRequestError:
    """Make the error for a call that continues a response and a conversation. OpenAI names neither in `param`."""
    return InvalidRequestError(
        "Mutually exclusive parameters: ''. Ensure you are only providing one of: 'pre..._id' or 'conversation'.",
        code="mutually_exclusive_parameters",
    )


def wrong_prefix(path: str, value: str, prefix: str) -> InvalidRequestError:
    """Make the error for an id of another kind."""
    return InvalidRequestError(
        f"Invalid '{path}': '{_quoted(value)}'. Expected an ID that begins with '{prefix}'.",
        code="invalid_value",
        param=path,
    )


def missing(path: str) -> InvalidRequestError:
    """Make the error for a required parameter or member that is absent."""
    return InvalidRequestError(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def unknown_parameter(path: str) -> InvalidRequestError:
    """Make the error for a member that a body of a closed form does not have."""
    shown = path[:_LONGEST_QUOTE]
    return InvalidRequestError(f"Unknown parameter: '{shown}'.", code="unknown_parameter", param=shown)


def unsupported(path: str, where: str) -> InvalidRequestError:
    """Make the error for a parameter that has a meaning, but not here.

    `where` says so: "by this gateway yet", "with this model".
    """
    shown = path[:_LONGEST_QUOTE]
    return InvalidRequestError(
        f"Unsupported parameter: '{shown}' is not supported {where}.", code="unsupported_parameter", param=shown
    )


def moved(old: str, new: str) -> InvalidRequestError:
    """Make the error for a parameter that has another name in this API. OpenAI gives no `param` here."""
    return InvalidRequestError(
        f"Unsupported parameter: '{old}'. In the Responses API, this parameter has moved to '{new}'.",
        code="unsupported_parameter",
    )


def unknown_model(name: str) -> InvalidRequestError:
    """Make the error for a model name that no upstream serves."""
    shown = name[:_LONGEST_QUOTE]
    return InvalidRequestError(f"The requested model '{shown}' does not exist.", code="model_not_found", param="model")


def inaccessible_model(name: str) -> NotFoundError:
    """Make the error for a model that does not exist, or that the caller may not use: it does not say which."""
    return NotFoundError(
        f"The model '{name[:_LONGEST_ID]}' does not exist or you do not have access to it.",
        code="model_not_found",
        param="model",
    )


def invalid_value(path: str, value: str, supported: Sequence[str]) -> InvalidRequestError:
    """Make the error for a value outside an enum of two or more."""
    *names, last = [f"'{name}'" for name in supported]
    # No comma before "and" where there are only two: that is how OpenAI writes it.
    head = ", ".join(names) + ("," if names[1:] else "")
    return InvalidRequestError(
        f"Invalid value: '{_quoted(value)}'. Supported values are: {head} and {last}.",
        code="invalid_value",
        param=path,
    )


def below_minimum(path: str, kind: str, minimum: float, value: float) -> InvalidRequestError:
    """Make the error for a number that is too small. `kind` is "integer" or "decimal"."""
    return _invalid(path, f"{kind} below minimum value", f"a value >= {minimum}", value, f"{kind}_below_min_value")


def above_maximum(path: str, kind: str, maximum: float, value: float) -> InvalidRequestError:
    """Make the error for a number that is too large. `kind` is "integer" or "decimal"."""
    return _invalid(path, f"{kind} above maximum value", f"a value <= {maximum}", value, f"{kind}_above_max_value")


def empty(path: str, value: str | Sequence[Any]) -> InvalidRequestError:
    """Make the error for a string or an array that must not be empty."""
    name = type_name(value)
    kind = name.split()[-1]
    return _invalid(path, f"empty {kind}", f"{name} with minimum length 1", f"an empty {kind}", f"empty_{kind}")


def too_long(path: str, maximum: int, value: str | Sequence[Any]) -> InvalidRequestError:
    """Make the error for a string of too many characters, or an array of too many elements."""
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
    """Make the error for an object of too many members."""
    return _invalid(
        path,
        "too many properties",
        f"an object with at most {maximum} properties",
        f"an object with {count} properties",
        "object_above_max_properties",
    )


def pattern_mismatch(path: str, pattern: str) -> InvalidRequestError:
    """Make the error for a string that does not match `pattern`, the regular expression as OpenAI prints it."""
    return InvalidRequestError(
        f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '{pattern}'.",
        code="invalid_value",
        param=path,
    )


def property_name_too_long(path: str, name: str, maximum: int) -> InvalidRequestError:
    """Make the error for a key that is too long; it is quoted short, in the message and in `param`."""
    return InvalidRequestError(
        f"Invalid property name in '{path}': '{_quoted(name)}' is too long. "
        f"Expected a string with maximum length {maximum}, but got a string with length {len(name)} instead.",
        code="string_above_max_length",
        param=f"{path}.{_quoted(name)}",
    )


def unanswered_call(call_type: str, call_id: object) -> InvalidRequestError:
    """Make the error for a call in the history without its output."""
    return InvalidRequestError(f"No tool output found for {call_type.replace('_', ' ')} {call_id}.", param="input")


def output_without_call(output_type: str, call_id: object) -> InvalidRequestError:
    """Make the error for an output whose call does not exist."""
    kind = output_type.replace("_", " ")
    return InvalidRequestError(f"No tool call found for {kind} with call_id {call_id}.", param="input")


def item_not_found(item_id: str, hint: str = "") -> NotFoundError:
    """Make the error for an item id that is not stored here."""
    return NotFoundError(f"Item with id '{item_id}' not found.{hint}")


def unreadable_content(path: str, item_id: object) -> InvalidRequestError:
    """Make the error for encrypted content that was made elsewhere, for another caller, or changed since."""
    shown = f" for item {_quoted(item_id)}" if isinstance(item_id, str) else ""
    return InvalidRequestError(
        f"The encrypted content{shown} could not be verified. "
        "Reason: Encrypted content could not be decrypted or parsed.",
        code="invalid_encrypted_content",
        param=path,
    )


def conversation_not_found(conversation_id: str) -> NotFoundError:
    """Make the error for a conversation that is not stored here. OpenAI gives no `param`, also in a create call."""
    return NotFoundError(f"Conversation with id '{conversation_id[:_LONGEST_ID]}' not found.")


def conversation_locked() -> InvalidRequestError:
    """Make the error for a conversation that another call writes to. A 400, though a retry helps, as OpenAI has it."""
    return InvalidRequestError(
        "Another process is currently operating on this conversation. Please retry in a few seconds.",
        code="conversation_locked",
        param="conversation",
    )


def conversation_full(most: int) -> InvalidRequestError:
    """Make the error for a conversation that takes no more items, by a limit of this gateway."""
    return InvalidRequestError(
        f"This conversation is full: at most {most} items are kept in one. Please start a new one.",
        code="conversation_full",
        param="conversation",
    )


def context_too_long(max_bytes: int) -> InvalidRequestError:
    """Make the error for a history and input that are more than this gateway sends upstream."""
    return InvalidRequestError(
        "Your input exceeds the context window of this model. Please adjust your input and try again. "
        f"(This gateway sends at most {max_bytes} bytes of input, with all that a call continues.)",
        code="context_length_exceeded",
        param="input",
    )


def previous_response_not_found(response_id: str) -> InvalidRequestError:
    """Make the error for a previous response that is not stored here, or no longer with all its ancestors."""
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


def _abbreviated(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_ENDS_SHOWN]}...{name[-_ENDS_SHOWN:]}"


def previous_response_unfinished(response_id: str, status: str) -> InvalidRequestError:
    """Make the error for a previous response that still runs in the background."""
    return InvalidRequestError(
        f"Previous response with id '{response_id}' cannot be continued yet: its status is '{status}'.",
        code="previous_response_not_finished",
        param="previous_response_id",
    )


def synchronous_response() -> InvalidRequestError:
    """Make the error for cancelling a response that does not run in the background."""
    return InvalidRequestError("Cannot cancel a synchronous response.")


def already_ended(status: str) -> InvalidRequestError:
    """Make the error for cancelling a response that has ended otherwise."""
    return InvalidRequestError(f"Cannot cancel a {status} response.")
