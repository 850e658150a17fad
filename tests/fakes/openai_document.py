"""OpenAI's OpenAPI document, where TEST_OPENAI_DOCUMENT names a file of it as JSON: what it calls valid, and samples.

It is not ours to publish. Without it the tests that need it are skipped and say so; what they found is in others.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

VARIABLE = "TEST_OPENAI_DOCUMENT"
# Of a member that lies so deep, no more variants than this.
_DEEP, _MOST_VARIANTS = 3, 6
_DEEPEST = 9
_STRINGS = {"^tunnel_[a-z0-9]{32}$": "tunnel_" + "a" * 32}


class Document:
    """The schemas of the document, by name. Its `oneOf`s are read as `anyOf`: many of them overlap."""

    def __init__(self, file: Path) -> None:
        self._document = _loosened(orjson.loads(file.read_bytes()))

    def schema(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._document["components"]["schemas"][name]
        return found

    def faults(self, name: str, value: object) -> list[str]:
        """What keeps this from being what the schema of this name asks for."""
        schema = {"$ref": f"#/components/schemas/{name}", "components": self._document["components"]}
        found = jsonschema.Draft202012Validator(schema).iter_errors(value)
        return [f"{error.json_path}: {error.message[:200]}" for error in found]

    def samples(self, schema: Mapping[str, Any], depth: int = 0) -> Iterator[Any]:
        """Values that the schema allows: each branch and each optional member once, the smallest first."""
        if "$ref" in schema:
            schema = self.schema(schema["$ref"].rpartition("/")[2])
        if depth > _DEEPEST:
            return
        if "allOf" in schema:
            yield from self._objects(self._merged(schema), depth)
        elif "anyOf" in schema:
            for branch in schema["anyOf"]:
                yield from self._some(branch, depth)
        elif "enum" in schema:
            yield from schema["enum"]
        else:
            yield from self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Iterator[Any]:
        match schema.get("type", "object" if "properties" in schema else None):
            case "object":
                yield from self._objects(schema, depth)
            case "array":
                if not schema.get("minItems"):
                    yield []
                for element in self.samples(schema["items"], depth + 1):
                    yield [element]
            case "string":
                yield _STRINGS.get(schema.get("pattern", ""), "text")
            case "boolean":
                yield from (True, False)
            case "integer" | "number":
                yield from dict.fromkeys((schema.get("minimum", 1), schema.get("maximum", schema.get("minimum", 1))))
            case "null":
                yield None
            case _:
                yield {}

    def _objects(self, schema: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        least = {}
        for name in required:
            value = next(self.samples(properties.get(name, {}), depth + 1), None)
            least[name] = value
        yield least
        others = schema.get("additionalProperties")
        if not properties and isinstance(others, dict):
            yield {"key": next(self.samples(others, depth + 1), "text")}
        for name, member in properties.items():
            for value in self._some(member, depth + 1):
                if value != least.get(name, least):
                    yield {**least, name: value}

    def _some(self, schema: Mapping[str, Any], depth: int) -> Iterator[Any]:
        return islice(self.samples(schema, depth), _MOST_VARIANTS if depth >= _DEEP else None)

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        for part in schema["allOf"]:
            whole = self.schema(part["$ref"].rpartition("/")[2]) if "$ref" in part else part
            whole = self._merged(whole) if "allOf" in whole else whole
            merged["properties"] |= whole.get("properties", {})
            merged["required"] += whole.get("required", [])
        return merged


@cache
def document() -> Document:
    """The document; skips the test, loudly, where there is none."""
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} names no file: set it to OpenAI's OpenAPI document (JSON) to run this")
    return Document(Path(named))


def _loosened(value: Any) -> Any:
    if isinstance(value, list):
        return [_loosened(element) for element in value]
    if not isinstance(value, dict):
        return value
    loose = {name: _loosened(member) for name, member in value.items() if name not in {"discriminator", "default"}}
    if isinstance(loose.get("oneOf"), list):
        loose["anyOf"] = loose.pop("oneOf")
    return loose
