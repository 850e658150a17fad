"""Validate what administrators write about keys and projects: names, tags, policies, times."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from app.errors import InvalidRequestError
from app.state.ip_addresses import read_network
from app.state.policies import Budget, KeyPolicy, Limits, ProjectPolicy
from app.wire import error_messages

P = TypeVar("P", KeyPolicy, ProjectPolicy)

_TYPES: Mapping[str, str] = {
    "str": "a string",
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_EXPECTED_AND_GOT = 2

_LONGEST_NAME = 100
_MOST_TAGS = 16
_MOST_GLOBS = 64
_MOST_NETWORKS = 64
_LONGEST_GLOB = 200
_MOST_BUDGETS = 3
# The largest integer that every JSON parser keeps exact.
_LARGEST = 2**53
# Costs are counted in nano-dollars.
_LEAST_USD = 1e-9
_MOST_USD = 1e9
_MOST_DAYS = 36_500
_LONGEST_OVERLAP = 30 * 86_400
_LATEST = 253_402_300_799  # the end of the year 9999


def check_name(value: object, param: str = "name") -> str:
    """Check a name: 1 to 100 printable characters. Raises InvalidRequestError, as all checks here."""
    text = _text(value, param)
    if not text.strip():
        raise error_messages.empty(param, text)
    if len(text) > _LONGEST_NAME:
        raise error_messages.too_long(param, _LONGEST_NAME, text)
    return text


def check_owner(value: object) -> str | None:
    """Check an owner: as a name, or None for nobody."""
    return None if value is None else check_name(value, "owner")


def check_tags(value: object) -> tuple[str, ...]:
    """Check tags: up to 16, each as a name; duplicates are dropped."""
    tags = _list(value, "tags", _MOST_TAGS)
    return tuple(dict.fromkeys(check_name(tag, f"tags[{place}]") for place, tag in enumerate(tags)))


def check_days(value: object, param: str = "retention_days") -> int | None:
    """Check a number of days: 1 to 36,500, or None for the setting's."""
    return None if value is None else _whole(value, param, most=_MOST_DAYS)


def check_expiry(value: object) -> int | None:
    """Check an expiry: a future time in unix seconds, or None for never."""
    return None if value is None else _whole(value, "expires_at", least=int(time.time()) + 1, most=_LATEST)


def check_overlap(value: object) -> int:
    """Check an overlap: 0 seconds to 30 days."""
    return _whole(value, "overlap_seconds", least=0, most=_LONGEST_OVERLAP)


def check_key_policy(value: KeyPolicy | Mapping[str, Any]) -> KeyPolicy:
    """Check a key's policy, or build it from its members; unknown members are refused."""
    policy = _converted(value, KeyPolicy)
    _check_globs(policy.models)
    if not policy.scopes:
        raise error_messages.empty("policy.scopes", [])
    if len(policy.addresses) > _MOST_NETWORKS:
        raise error_messages.too_long("policy.addresses", _MOST_NETWORKS, list(policy.addresses))
    addresses = tuple(_network(network, f"policy.addresses[{place}]") for place, network in enumerate(policy.addresses))
    _check_limits(policy.limits)
    return msgspec.structs.replace(policy, scopes=tuple(dict.fromkeys(policy.scopes)), addresses=addresses)


def check_project_policy(value: ProjectPolicy | Mapping[str, Any]) -> ProjectPolicy:
    """Check a project's policy, or build it from its members; unknown members are refused."""
    policy = _converted(value, ProjectPolicy)
    _check_globs(policy.models)
    _check_limits(policy.limits)
    return policy


def unknown_members(changes: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse the first member that is not among `known`."""
    for name in changes:
        if name not in known:
            raise error_messages.unknown_parameter(str(name))


def _converted(value: object, kind: type[P]) -> P:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _misformed(str(error)) from None


def _misformed(finding: str) -> InvalidRequestError:
    """Reword msgspec's finding in a policy ("Expected `int | null`, got `str` - at `$.x`") in OpenAI's words."""
    reason, _, path = finding.partition(" - at `$")
    param = f"policy{path.rstrip('`')}"
    named = reason.split("`")[1::2]
    if reason.startswith("Object contains unknown field"):
        return error_messages.unknown_parameter(f"{param}.{named[0]}")
    if reason.startswith("Object missing required field"):
        return error_messages.missing(f"{param}.{named[0]}")
    if reason.startswith("Expected") and len(named) == _EXPECTED_AND_GOT:
        expected, got = (_TYPES[name.partition(" ")[0]] for name in named)
        return InvalidRequestError(
            f"Invalid type for '{param}': expected {expected}, but got {got} instead.", code="invalid_type", param=param
        )
    return _refused(param, reason[0].lower() + reason[1:])


def _check_globs(globs: Sequence[str]) -> None:
    if not globs:
        raise error_messages.empty("policy.models", [])
    if len(globs) > _MOST_GLOBS:
        raise error_messages.too_long("policy.models", _MOST_GLOBS, list(globs))
    for place, glob in enumerate(globs):
        param = f"policy.models[{place}]"
        if not _text(glob, param):
            raise error_messages.empty(param, glob)
        if len(glob) > _LONGEST_GLOB:
            raise error_messages.too_long(param, _LONGEST_GLOB, glob)


def _check_limits(limits: Limits) -> None:
    for name in ("requests_per_minute", "tokens_per_minute", "concurrent_streams", "max_output_tokens"):
        value = getattr(limits, name)
        if value is not None:
            _whole(value, f"policy.limits.{name}")
    if len(limits.budgets) > _MOST_BUDGETS:
        raise error_messages.too_long("policy.limits.budgets", _MOST_BUDGETS, list(limits.budgets))
    periods = [budget.period for budget in limits.budgets]
    for place, budget in enumerate(limits.budgets):
        param = f"policy.limits.budgets[{place}]"
        if budget.period in periods[:place]:
            raise _refused(f"{param}.period", f"there is one budget for each period, and '{budget.period}' has one")
        _check_budget(budget, param)


def _check_budget(budget: Budget, param: str) -> None:
    if budget.tokens is None and budget.usd is None:
        raise _refused(param, "a budget has 'tokens' or 'usd' or both")
    if budget.tokens is not None:
        _whole(budget.tokens, f"{param}.tokens")
    if budget.usd is not None and not _LEAST_USD <= budget.usd <= _MOST_USD:
        raise _refused(f"{param}.usd", "expected a positive amount of money")


def _network(text: str, param: str) -> str:
    """Normalize a network: 10.1.2.3/8 becomes 10.0.0.0/8, and so does ::ffff:10.0.0.0/104."""
    try:
        return str(read_network(text, strict=False))
    except ValueError:
        raise _refused(param, "expected a network or an address such as 10.0.0.0/8") from None


def _text(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise error_messages.invalid_type(param, value, "a string")
    if not value.isprintable():
        raise _refused(param, "expected printable characters only")
    return value


def _list(value: object, param: str, most: int) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise error_messages.invalid_type(param, value, "an array")
    if len(value) > most:
        raise error_messages.too_long(param, most, list(value))
    return value


def _whole(value: object, param: str, *, least: int = 1, most: int = _LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise error_messages.invalid_type(param, value, "an integer")
    if value < least:
        raise error_messages.below_minimum(param, "integer", least, value)
    if value > most:
        raise error_messages.above_maximum(param, "integer", most, value)
    return value


def _refused(param: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid '{param}': {reason}.", code="invalid_value", param=param)
