"""Read the checks of request bodies as JSON Schemas, so that the document says what is checked and not a copy of it.

A check is a closure of app.wire.requests.value_checks; what it was made with is read from its variables.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from app.api.openapi.operation import NOTHING, Schema, nullable, one_of
from app.wire.requests.value_checks import Check

ByHand: TypeAlias = Mapping[Check, Schema]
"""The schemas of checks that are no closure of app.wire.requests.value_checks."""


def schema_of(check: Check, by_hand: ByHand) -> Schema:
    """Return the schema of what passes the check. Raises KeyError for one that is neither known nor written by hand."""
    if check in by_hand:
        return by_hand[check]
    return _KINDS[check.__qualname__.partition(".")[0]](inspect.getclosurevars(check).nonlocals, by_hand)


def merged(strict: Schema, loose: Schema) -> Schema:
    """Return the schema of what passes either of two checks of one value, which tells what the stricter one asks for.

    The gateway holds a request to OpenAI's own rules or to those of structure, by the upstream that serves the model.
    """
    if strict == loose:
        return strict
    if "anyOf" in strict and len(strict["anyOf"]) == len(loose.get("anyOf", ())):
        return one_of(*map(merged, strict["anyOf"], loose["anyOf"]))
    if strict.get("type") == loose.get("type") and "enum" not in strict:
        if "properties" in loose:
            ours, theirs = strict["properties"], loose["properties"]
            return {**loose, "properties": {name: merged(ours[name], schema) for name, schema in theirs.items()}}
        if "items" in loose:
            return {**loose, "items": merged(strict["items"], loose["items"])}
        asked = ", ".join(f"{name} {value}" for name, value in strict.items() if loose.get(name) != value)
        return {**loose, "description": f"OpenAI itself: {asked}."}
    return one_of(strict, loose)


def _string(facts: Mapping[str, Any], _: ByHand) -> Schema:
    schema: Schema = {"type": "string"}
    if facts["non_empty"]:
        schema["minLength"] = 1
    if facts["maximum"] is not None:
        schema["maxLength"] = facts["maximum"]
    if facts["pattern"] is not None:
        schema["pattern"] = facts["pattern"].pattern
    return schema


def _enum(facts: Mapping[str, Any], _: ByHand) -> Schema:
    return {"type": "string", "enum": [*facts["values"], *facts["also"]]}


def _open_enum(_: Mapping[str, Any], __: ByHand) -> Schema:
    return {"type": "string"}


def _prefixed(facts: Mapping[str, Any], by_hand: ByHand) -> Schema:
    return {**schema_of(facts["text"], by_hand), "pattern": f"^{facts['prefix']}"}


def _number(kind: str) -> "Callable[[Mapping[str, Any], ByHand], Schema]":
    def number(facts: Mapping[str, Any], _: ByHand) -> Schema:
        bounds = {name: facts[name] for name in ("minimum", "maximum") if facts[name] is not None}
        return {"type": kind, **bounds}

    return number


def _array_of(facts: Mapping[str, Any], by_hand: ByHand) -> Schema:
    schema: Schema = {"type": "array", "items": schema_of(facts["element"], by_hand)}
    if facts["non_empty"]:
        schema["minItems"] = 1
    if facts["maximum"] is not None:
        schema["maxItems"] = facts["maximum"]
    return schema


def _object_of(facts: Mapping[str, Any], by_hand: ByHand) -> Schema:
    needed, others = dict(facts["needed"]), dict(facts["others"])
    properties = {name: schema_of(check, by_hand) for name, check in needed.items()}
    properties |= {name: nullable(schema_of(check, by_hand)) for name, check in others.items()}
    schema: Schema = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if needed:
        schema["required"] = [*needed]
    return schema


def _tagged(facts: Mapping[str, Any], by_hand: ByHand) -> Schema:
    tag = inspect.getclosurevars(facts["typed"]).nonlocals["needed"]
    variants = {name: schema_of(check, by_hand) for name, check in facts["variants"].items()}
    rest = _without(schema_of(dict(tag)["type"], by_hand), variants)
    return one_of(
        *[of_type({"const": name}, schema) for name, schema in variants.items()], *[of_type(each) for each in rest]
    )


def _without(named: Schema, told: Mapping[str, Schema]) -> list[Schema]:
    """The types that have no variant of their own."""
    if "enum" in named:
        left = [value for value in named["enum"] if value not in told]
        return [{"type": "string", "enum": left}] if left else []
    return [{**named, "not": {"enum": [*told]}}]


def of_type(tag: Schema, schema: Schema | None = None) -> Schema:
    """An object with a `type` that is this, and the members of this schema."""
    given = schema or {}
    properties = {"type": tag, **given.get("properties", {})}
    return {**given, "type": "object", "properties": properties, "required": ["type", *given.get("required", ())]}


def _either(facts: Mapping[str, Any], by_hand: ByHand) -> Schema:
    # An integer is a number too, and a list may be one that was read in slices: of each JSON type one is told.
    kinds = {name: check for kind, check in facts["kinds"].items() if (name := _JSON_TYPES.get(kind))}
    return one_of(*(_narrowed(name, schema_of(check, by_hand)) for name, check in kinds.items()))


def _narrowed(name: str, schema: Schema) -> Schema:
    """Return the schema of what passes a check that is only asked about values of this type."""
    if schema.keys().isdisjoint({"type", "anyOf", "$ref", "not"}):
        return {"type": name, **schema}
    return schema if schema.get("type", name) == name else NOTHING


_JSON_TYPES: Mapping[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}
_KINDS: Mapping[str, Callable[[Mapping[str, Any], ByHand], Schema]] = {
    "boolean": lambda *_: {"type": "boolean"},
    "array": lambda *_: {"type": "array"},
    "string": _string,
    "enum": _enum,
    "open_enum": _open_enum,
    "prefixed": _prefixed,
    "integer": _number("integer"),
    "decimal": _number("number"),
    "array_of": _array_of,
    "object_of": _object_of,
    "tagged": _tagged,
    "either": _either,
}
