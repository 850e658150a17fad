"""Check decoded JSON values: primitive checks, and constructors that compose them. No field of the API is named here.

A check takes a value and its path ("tools[0].name"), and raises the InvalidRequestError that names the first fault.
It changes nothing; members that it was not given pass.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from app.wire import error_messages
from app.wire.json.sliced_decoder import Elements

Check: TypeAlias = Callable[[Any, str], None]


def boolean(value: Any, path: str) -> None:
    if type(value) is not bool:
        raise error_messages.invalid_type(path, value, "a boolean")


def array(value: Any, path: str) -> None:
    if type(value) is not list and type(value) is not Elements:
        raise error_messages.invalid_type(path, value, "an array")


def string(*, maximum: int | None = None, non_empty: bool = False, pattern: re.Pattern[str] | None = None) -> Check:
    """Check for a string of at most `maximum` characters, all of it matching `pattern`."""

    def check(value: Any, path: str) -> None:
        if type(value) is not str:
            raise error_messages.invalid_type(path, value, "a string")
        if non_empty and not value:
            raise error_messages.empty(path, value)
        if maximum is not None and len(value) > maximum:
            raise error_messages.too_long(path, maximum, value)
        if pattern is not None and not pattern.fullmatch(value):
            raise error_messages.pattern_mismatch(path, pattern.pattern)

    return check


def enum(*values: str, also: Collection[str] = ()) -> Check:
    """Check for one of these strings. The error does not name those in `also`."""
    expected = error_messages.one_of(values)

    def check(value: Any, path: str) -> None:
        if type(value) is not str:
            raise error_messages.invalid_type(path, value, expected)
        if value not in values and value not in also:
            raise error_messages.invalid_value(path, value, values)

    return check


def open_enum(*values: str, also: Collection[str] = ()) -> Check:  # noqa: ARG001 - it stands where `enum` may stand
    """Check for any string: other values may be defined. The error for another type names these."""
    expected = error_messages.one_of(values)

    def check(value: Any, path: str) -> None:
        if type(value) is not str:
            raise error_messages.invalid_type(path, value, expected)

    return check


def prefixed(prefix: str, *, maximum: int) -> Check:
    """Check for an id of at most `maximum` characters with this prefix."""
    text = string(maximum=maximum)

    def check(value: Any, path: str) -> None:
        text(value, path)
        if not value.startswith(prefix):
            raise error_messages.wrong_prefix(path, value, prefix)

    return check


def integer(*, minimum: int | None = None, maximum: int | None = None) -> Check:
    """Check for an integer as JSON spells one: not `true`, 1.0, nor beyond 64 bits, which decodes to a float."""

    def check(value: Any, path: str) -> None:
        if type(value) is not int:
            raise error_messages.invalid_type(path, value, "an integer")
        _check_range("integer", minimum, maximum, value, path)

    return check


def decimal(*, minimum: int | None = None, maximum: int | None = None) -> Check:
    """Check for a number in the range, bounds included."""

    def check(value: Any, path: str) -> None:
        if type(value) is not float and type(value) is not int:
            raise error_messages.invalid_type(path, value, "a decimal")
        _check_range("decimal", minimum, maximum, value, path)

    return check


def array_of(
    element: Check, *, expected: str = "an array", non_empty: bool = False, maximum: int | None = None
) -> Check:
    """Check for an array of such elements: `non_empty`, of `maximum` at most; `expected` names it in the error."""

    def check(value: Any, path: str) -> None:
        if type(value) is not list and type(value) is not Elements:
            raise error_messages.invalid_type(path, value, expected)
        if non_empty and not value:
            raise error_messages.empty(path, value)
        if maximum is not None and len(value) > maximum:
            raise error_messages.too_long(path, maximum, value)
        for index, item in enumerate(value):
            element(item, f"{path}[{index}]")

    return check


def object_of(*, required: Mapping[str, Check] | None = None, optional: Mapping[str, Check] | None = None) -> Check:
    """Check for an object with these members, in this order. An optional member may be null, a required one not."""
    needed = tuple((required or {}).items())
    others = tuple((optional or {}).items())

    def check(value: Any, path: str) -> None:
        if type(value) is not dict:
            raise error_messages.invalid_type(path, value, "an object")
        for name, member in needed:
            if name not in value:
                raise error_messages.missing(f"{path}.{name}")
            member(value[name], f"{path}.{name}")
        for name, member in others:
            if (given := value.get(name)) is not None:
                member(given, f"{path}.{name}")

    return check


def tagged(tag: Check, variants: Mapping[str, Check]) -> Check:
    """Check for an object whose `type` passes `tag`, and then the check of that type, if there is one."""
    typed = object_of(required={"type": tag})

    def check(value: Any, path: str) -> None:
        typed(value, path)
        variant = variants.get(value["type"])
        if variant is not None:
            variant(value, path)

    return check


def either(expected: str, kinds: Mapping[type, Check]) -> Check:
    """Check for a value of one of these Python types, each with its own check; `expected` names them in the error."""
    if list in kinds:
        kinds = {**kinds, Elements: kinds[list]}

    def check(value: Any, path: str) -> None:
        kind = kinds.get(type(value))
        if kind is None:
            raise error_messages.invalid_type(path, value, expected)
        kind(value, path)

    return check


def _check_range(kind: str, minimum: int | None, maximum: int | None, value: float, path: str) -> None:
    if minimum is not None and value < minimum:
        raise error_messages.below_minimum(path, kind, minimum, value)
    if maximum is not None and value > maximum:
        raise error_messages.above_maximum(path, kind, maximum, value)
