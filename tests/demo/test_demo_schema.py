import re
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.demo.pattern_sample import sample
from app.demo.schema_instance import fill
from app.demo.text import words
from tests.live.seed_samples import LANGUAGES

NODE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "next", "children"],
            "additionalProperties": False,
        }
    },
}

SCHEMAS: dict[str, Any] = {
    "languages": LANGUAGES,
    "recursive": NODE,
    "self": {"type": "object", "properties": {"up": {"type": ["object", "null"]}, "me": {"$ref": "#"}}},
    "enum": {"enum": ["a", 2, None]},
    "const": {"const": {"x": 1}},
    "nullable": {"type": ["null", "integer"]},
    "nullable and odd": {"type": ["integer", "null"]},
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "one of": {"oneOf": [{"type": "null"}, {"type": "string", "minLength": 3}]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b", "a"]},
        ]
    },
    "ref with siblings": {"$ref": "#/definitions/a~1b", "minLength": 9, "definitions": {"a/b": {"type": "string"}}},
    "ref into a list": {"anyOf": [{"type": "integer", "minimum": 7}], "allOf": [{"$ref": "#/anyOf/0"}]},
    "nulls only": {"anyOf": [{"type": "null"}]},
    "bounded array": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 4},
    "empty array": {"type": "array", "maxItems": 0},
    "tuple": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    "tuple and more": {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 3},
    "lengths": {"type": "string", "minLength": 5, "maxLength": 6},
    "short": {"type": "string", "maxLength": 2},
    "untyped object": {"properties": {"a": {}}},
    "untyped number": {"minimum": 4},
    "anything": True,
    "empty": {},
    "true property": {"type": "object", "required": ["x"]},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_the_instance_is_valid(schema: Any) -> None:
    jsonschema.Draft202012Validator(schema).validate(fill(schema))


def test_an_array_gets_an_item_and_recursion_ends() -> None:
    tree = fill(NODE)
    assert tree["children"][0]["next"]["name"] == "demo"
    assert len(orjson.dumps(tree)) < 200_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]},
        {"type": "array", "minItems": 10**9, "items": {"type": "array", "minItems": 10**9}},
        {"type": "string", "minLength": 10**9},
        False,
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    ],
)
def test_a_schema_without_a_small_instance_is_given_up_in_time(schema: Any) -> None:
    assert len(orjson.dumps(fill(schema))) < 1_000_000


def test_a_reference_to_nowhere_asks_for_nothing() -> None:
    assert fill({"$ref": "#/anyOf/9/x", "anyOf": [{"type": "integer"}]}) == 1
    assert fill({"$ref": "#/type/x"}) == "demo"


def test_free_strings_say_the_phrase_and_enums_what_was_mentioned() -> None:
    schema = {"properties": {"city": {"type": "string"}, "unit": {"enum": ["kelvin", "celsius"]}}}
    assert fill(schema, "Tokyo", "Tokyo in Celsius") == {"city": "Tokyo", "unit": "celsius"}
    assert fill(schema, "", "") == {"city": "demo", "unit": "kelvin"}


@pytest.mark.parametrize(
    "form", ["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid", "unknown"]
)
def test_a_format_is_kept(form: str) -> None:
    schema = {"type": "string", "format": form}
    jsonschema.validate(fill(schema), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{3}-\d{4}$",
        r"^[A-Z]{2,3}$",
        r"^(foo|bar)+$",
        r"^(?:a|b)(?P<x>c)?(?<y>d)*\.e$".replace("(?<y>", "(?P<y>"),
        r"^[^a-z0-9]{2}.$",
        r"^[]x]+?$",
        r"^[\w.]+@[a-z]+\.com\b$",
        r"^\S\s\W\D\t\\$",
        r"(?=.)x(?!y)",
        r"^#[0-9a-fA-F]{6}$",
        r"^a{0,3}b{2,}$",
        r"^a||c$",
        "",
    ],
)
def test_a_sample_matches_its_pattern(pattern: str) -> None:
    assert re.search(pattern, sample(pattern))
    assert re.search(pattern, fill({"type": "string", "pattern": pattern}))


@pytest.mark.parametrize(
    "pattern", ["(((a{9999}){9999}){9999})", "(" * 10_000, "[", "[^", "a{", "a{x}", "\\", "(?P<", "(?<n", ")", "[^ -~]"]
)
def test_a_hostile_pattern_gets_a_short_text(pattern: str) -> None:
    assert len(sample(pattern)) <= 10_000


limits = st.integers(-50, 50) | st.floats(-50, 50, allow_nan=False).map(lambda value: round(value, 2))


@given(low=limits, size=st.integers(3, 40), opened=st.tuples(st.booleans(), st.booleans()), integer=st.booleans())
def test_a_number_is_within_its_bounds(low: float, size: int, opened: tuple[bool, bool], integer: bool) -> None:
    schema = {
        "type": "integer" if integer else "number",
        "exclusiveMinimum" if opened[0] else "minimum": low,
        "exclusiveMaximum" if opened[1] else "maximum": low + size,
    }
    jsonschema.validate(fill(schema), schema)


@given(limit=limits, opened=st.booleans(), below=st.booleans(), integer=st.booleans())
def test_one_bound_is_kept(limit: float, opened: bool, below: bool, integer: bool) -> None:
    names = ("maximum", "exclusiveMaximum") if below else ("minimum", "exclusiveMinimum")
    schema = {"type": "integer" if integer else "number", names[opened]: limit}
    jsonschema.validate(fill(schema), schema)


@given(low=st.integers(-50, 50), step=st.integers(1, 9))
def test_a_multiple_is_kept(low: int, step: int) -> None:
    schema = {"type": "integer", "exclusiveMinimum": low, "maximum": low + 10, "multipleOf": step}
    jsonschema.validate(fill(schema), schema)


def test_a_narrow_range_takes_the_multiple_inside_it() -> None:
    assert fill({"type": "integer", "maximum": 3, "multipleOf": 5}) == 0
    assert fill({"type": "integer", "exclusiveMaximum": 5, "multipleOf": 5}) == 0
    assert fill({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}) == 0.25


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": [{}, "null"]},
        {"type": {}},
        {"type": []},
        {"pattern": 1},
        {"$ref": 5},
        {"required": [1]},
        {"minimum": "5"},
        {"multipleOf": 0},
        {"multipleOf": True},
        {"maximum": None},
        {"minimum": 1e300},
    ],
)
def test_a_bound_that_is_none_breaks_nothing(wrong: dict[str, Any]) -> None:
    assert orjson.dumps(fill({"type": "integer", **wrong}))


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "type",
                        "properties",
                        "required",
                        "items",
                        "prefixItems",
                        "enum",
                        "const",
                        "$ref",
                        "allOf",
                        "anyOf",
                    ),
                    *("oneOf", "minItems", "maxItems", "minLength", "maxLength", "minimum", "exclusiveMaximum"),
                    *("multipleOf", "pattern", "format"),
                ]
            ),
            inner | st.sampled_from(["object", "array", "string", "integer", "number", "#", "#/items"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(schema=junk)
def test_a_senseless_schema_still_gets_some_json(schema: Any) -> None:
    assert orjson.dumps(fill(schema))


@given(text=st.text())
def test_words_joined_are_the_text(text: str) -> None:
    assert "".join(words(text)) == text
