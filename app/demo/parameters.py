"""Checks the parameters of a create call for type, range and choice, in OpenAI's words (spec §2, §6.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import InvalidRequestError

_INCLUDABLE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_TYPES: dict[str, tuple[str, ...]] = {
    "a boolean": ("stream", "background", "store", "parallel_tool_calls"),
    "a string": (
        "instructions",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
        "truncation",
    ),
    "an integer": ("max_output_tokens", "max_tool_calls", "top_logprobs"),
    "a number": ("temperature", "top_p", "presence_penalty", "frequency_penalty"),
    "an object": ("metadata", "reasoning", "text", "stream_options"),
    "an array": ("tools", "include"),
}
_RANGES: dict[str, tuple[float, float | None]] = {
    "max_output_tokens": (16, None),
    "max_tool_calls": (1, None),
    "top_logprobs": (0, 20),
    "temperature": (0, 2),
    "top_p": (0, 1),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "truncation": ("auto", "disabled"),
    "service_tier": ("auto", "default", "fast", "flex", "priority"),
    "text.verbosity": ("low", "medium", "high"),
    "text.format.type": ("text", "json_object", "json_schema"),
    "reasoning.effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "reasoning.summary": ("auto", "concise", "detailed"),
}
_JSON_NAMES = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a number"),
    (list, "an array"),
    (dict, "an object"),
)


def check_parameters(body: Mapping[str, Any]) -> None:
    """Raises InvalidRequestError for the first parameter that is wrong; null means absent."""
    for expected, names in _TYPES.items():
        for name in names:
            value = body.get(name)
            # An integer is a number too.
            if value is not None and json_name(value) not in {expected, "an integer" if "number" in expected else ""}:
                raise invalid_type(name, expected, value)
    for name, (low, high) in _RANGES.items():
        if body.get(name) is not None:
            _check_range(name, body[name], low, high)
    for path, choices in _CHOICES.items():
        value = value_at(body, path)
        if value is not None and value not in choices:
            raise invalid_value(path, value, choices)
    for index, name in enumerate(body.get("include") or ()):
        if name not in _INCLUDABLE:
            raise invalid_value(f"include[{index}]", name, _INCLUDABLE)
    _check_format(value_at(body, "text.format"))


def value_at(body: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where the path leaves the objects."""
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def missing(path: str) -> InvalidRequestError:
    """The error for a parameter that has to be there."""
    return InvalidRequestError(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def invalid_type(path: str, expected: str, value: Any) -> InvalidRequestError:
    """The error for a value of another JSON type."""
    return InvalidRequestError(
        f"Invalid type for '{path}': expected {expected}, but got {json_name(value)} instead.",
        code="invalid_type",
        param=path,
    )


def invalid_value(path: str, value: Any, choices: Sequence[str]) -> InvalidRequestError:
    """The error for a value that is none of the choices."""
    quoted = [f"'{choice}'" for choice in choices]
    listed = " and ".join(quoted) if len(quoted) < 3 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"  # noqa: PLR2004 - English lists three with commas
    return InvalidRequestError(
        f"Invalid value: '{value}'. Supported values are: {listed}.", code="invalid_value", param=path
    )


def json_name(value: Any) -> str:
    """The JSON type of a value with its article. OpenAI calls null an object."""
    return next((name for kind, name in _JSON_NAMES if isinstance(value, kind)), "an object")


def _check_range(path: str, value: float, low: float, high: float | None) -> None:
    kind = "decimal" if path in _TYPES["a number"] else "integer"
    for wrong, side, sign, bound in (
        (value < low, "below minimum", ">=", low),
        (high is not None and value > high, "above maximum", "<=", high),
    ):
        if wrong:
            raise InvalidRequestError(
                f"Invalid '{path}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} instead.",
                code=f"{kind}_{side.replace('imum', '').replace(' ', '_')}_value",
                param=path,
            )


def _check_format(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise invalid_type("text.format", "an object", given)
    for name in ("name", "schema") if given.get("type") == "json_schema" else ("type",):
        if given.get(name) is None:
            raise missing(f"text.format.{name}")
    if not isinstance(given.get("schema", {}), Mapping):
        raise invalid_type("text.format.schema", "an object", given["schema"])
