"""Generate JSON that satisfies a JSON schema."""

import math
from collections.abc import Mapping
from typing import Any

from app.demo.pattern_sample import sample

# orjson writes 64-bit integers only.
_MAX_INTEGER = 2**63 - 1
_LEAST_STEP = 1e-6


def number_within(schema: Mapping[str, Any], *, integer: bool) -> float:
    """Choose a number by `minimum`, `maximum`, their exclusive forms and `multipleOf`."""
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
    """Return the stricter of the two bounds, infinite if there is none, and whether it is exclusive."""
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


_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
# The type of a schema without `type`, by its keywords.
_TELLING = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}
_SCALARS = ("null", "boolean", "integer", "number", "string")
_GENEROUS_DEPTH = 5
_MAX_DEPTH = 40
_MAX_VALUES = 2000
_MAX_LENGTH = 10_000
_MAX_HOPS = 20


def fill(schema: Any, phrase: str = "", context: str = "") -> Any:
    """Generate an instance of `schema`. Free strings are `phrase`; an enum value in `context` is preferred."""
    return _Filler(schema, phrase or "demo", context.lower()).value(schema, 0)


class _Filler:
    """Generate one instance. Past a depth or a count it is lean: no optional items, the plainest alternatives."""

    def __init__(self, root: Any, phrase: str, context: str) -> None:
        self._root = root
        self._phrase = phrase
        self._context = context
        self._values = 0

    def value(self, schema: Any, depth: int) -> Any:
        self._values += 1
        # A schema that requires itself has no finite instance: it is cut here.
        if schema is False or depth > _MAX_DEPTH or self._values > 2 * _MAX_VALUES:
            return None
        lean = depth > _GENEROUS_DEPTH or self._values > _MAX_VALUES
        plain = self._plain(schema, lean=lean, hops=0)
        if "const" in plain:
            return plain["const"]
        if isinstance(options := plain.get("enum"), list) and options:
            return next((option for option in options if self._mentions(option)), options[0])
        match _type(plain, lean=lean):
            case "object":
                return self._object(plain, depth, lean=lean)
            case "array":
                return self._array(plain, depth, lean=lean)
            case "integer":
                return number_within(plain, integer=True)
            case "number":
                return number_within(plain, integer=False)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(plain)

    def _mentions(self, option: Any) -> bool:
        return isinstance(option, str) and bool(option) and option.lower() in self._context

    def _plain(self, schema: Any, *, lean: bool, hops: int) -> dict[str, Any]:
        """Merge references, `allOf` and one alternative of `anyOf`/`oneOf` into the schema."""
        if not isinstance(schema, Mapping) or hops > _MAX_HOPS:
            return {}
        own = {key: value for key, value in schema.items() if key not in {"$ref", "allOf", "anyOf", "oneOf"}}
        parts: list[Any] = []
        if isinstance(reference := schema.get("$ref"), str):
            parts.append(self._resolve(reference))
        if isinstance(every := schema.get("allOf"), list):
            parts += every[:_MAX_HOPS]
        parts += [
            _alternative(options, lean=lean)
            for key in ("anyOf", "oneOf")
            if isinstance(options := schema.get(key), list) and options
        ]
        for part in parts:
            self._values += 1
            if self._values <= 2 * _MAX_VALUES:
                own = _merged(self._plain(part, lean=lean, hops=hops + 1), own)
        return own

    def _resolve(self, reference: str) -> Any:
        target = self._root
        for raw in reference.removeprefix("#").split("/")[1:]:
            key = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping):
                target = target.get(key)
            elif isinstance(target, list) and key.isascii() and key.isdigit():
                target = target[int(key)] if int(key) < len(target) else None
        return target

    def _object(self, schema: Mapping[str, Any], depth: int, *, lean: bool) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        # With nothing required an empty object would do, but it would show nothing.
        if not names and not lean:
            names = list(properties)
        return {name: self.value(properties.get(name, True), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int, *, lean: bool) -> list[Any]:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        least = max(_count(schema, "minItems", 0), 0 if lean else 1, len(first))
        length = min(least, _count(schema, "maxItems", least), _MAX_VALUES)
        rest = schema.get("items", True)
        if rest is False:
            length = min(length, len(first))
        return [self.value(first[index] if index < len(first) else rest, depth + 1) for index in range(length)]

    def _string(self, schema: Mapping[str, Any]) -> str:
        if isinstance(pattern := schema.get("pattern"), str):
            return sample(pattern)
        text = _FORMATS.get(str(schema.get("format")), self._phrase)
        least = min(_count(schema, "minLength", 0), _MAX_LENGTH)
        text = text * (least // len(text) + 1) if len(text) < least else text
        return text[: max(least, min(len(text), _count(schema, "maxLength", len(text))))]


def _type(schema: Mapping[str, Any], *, lean: bool) -> str:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = min(kind, key=_plainness if lean else _is_null)
    if isinstance(kind, str):
        return kind
    return next((told for key, told in _TELLING.items() if key in schema), "string")


def _is_null(kind: Any) -> bool:
    return bool(kind == "null")


def _alternative(options: list[Any], *, lean: bool) -> Any:
    if lean:
        return min(options, key=lambda option: _plainness(option.get("type") if isinstance(option, Mapping) else None))
    return next((option for option in options if option != {"type": "null"}), options[0])


def _plainness(kind: Any) -> int:
    return _SCALARS.index(kind) if kind in _SCALARS else len(_SCALARS)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`; properties and required names of both are kept."""
    merged = {**base, **over}
    if isinstance(ours := base.get("properties"), Mapping) and isinstance(theirs := over.get("properties"), Mapping):
        merged["properties"] = {**ours, **theirs}
    if isinstance(ours := base.get("required"), list) and isinstance(theirs := over.get("required"), list):
        merged["required"] = [*ours, *(name for name in theirs if name not in ours)]
    return merged


def _count(schema: Mapping[str, Any], key: str, default: int) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
