"""The number a JSON schema's bounds allow that is nearest to one."""

import math
from collections.abc import Mapping
from typing import Any

# orjson writes 64-bit integers only.
_MAX_INTEGER = 2**63 - 1
_LEAST_STEP = 1e-6


def number_within(schema: Mapping[str, Any], *, integer: bool) -> float:
    """A number for `minimum`, `maximum`, their exclusive forms and `multipleOf`; others are ignored."""
    low, above = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, below = _bound(schema, "maximum", "exclusiveMaximum", min)
    step = _number(schema, "multipleOf")
    step = step if step is not None and step >= _LEAST_STEP else float(integer)
    middle = (low + high) / 2 if math.isfinite(low) and math.isfinite(high) else None
    value = 1.0
    if value < low or (above and value <= low):
        value = low + (step or (1.0 if middle is None else middle - low)) if above else low
    if value > high or (below and value >= high):
        value = (high - (step or 1.0) if middle is None or step else middle) if below else high
    if step:
        value = _on_step(value, step, math.nextafter(high, -math.inf) if below else high)
    if integer:
        return max(-_MAX_INTEGER, min(int(value), _MAX_INTEGER))
    return value


def _on_step(value: float, step: float, high: float) -> float:
    up = math.ceil(value / step) * step
    return up if up <= high else math.floor(value / step) * step


def _bound(schema: Mapping[str, Any], closed: str, opened: str, stricter: Any) -> tuple[float, bool]:
    """The stricter of the two bounds, infinite when there is none, and whether it is exclusive."""
    none = -math.inf if stricter is max else math.inf
    bound, limit = _number(schema, closed), _number(schema, opened)
    bound = none if bound is None else bound
    limit = none if limit is None else limit
    strictest = stricter(bound, limit)
    return strictest, strictest == limit and math.isfinite(limit)


def _number(schema: Mapping[str, Any], key: str) -> float | None:
    value = schema.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
