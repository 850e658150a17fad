"""Describe one route for the OpenAPI document beside the table of routes: parameters, body, answers, errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Schema: TypeAlias = dict[str, Any]
"""A JSON Schema (2020-12), as OpenAPI 3.1 takes it."""

NULL: Schema = {"type": "null"}
NOTHING: Schema = {"not": {}}
"""Is passed by no value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query, or of the `header`. An array in a query is written with commas."""

    name: str
    schema: Schema
    description: str
    where: Literal["query", "header"] = "query"

    def told(self) -> dict[str, Any]:
        """The parameter as OpenAPI has it."""
        style = {"style": "form", "explode": False} if self.schema.get("type") == "array" else {}
        return {"name": self.name, "in": self.where, "description": self.description, "schema": self.schema, **style}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is no error: a schema for each media type, and headers of its own with their descriptions.

    Of a stream (text/event-stream) the schema is that of the data of each event.
    """

    description: str
    content: Mapping[str, Schema]
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call. `errors` are the statuses that only some calls have, beside those that every call may get."""

    answers: Mapping[int, Answer]
    parameters: Sequence[Parameter] = ()
    body: Schema | None = None
    needs_body: bool = True
    errors: Sequence[int] = ()
    relays_errors: bool = False
    """Upstream's own errors reach the client, with whatever status they have."""


def ref(name: str) -> Schema:
    """The schema of this name among the document's."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*schemas: Schema) -> Schema:
    """Return the schema of what passes one of these, or more."""
    flat: list[Schema] = []
    for schema in schemas:
        for branch in schema["anyOf"] if [*schema] == ["anyOf"] else [schema]:
            if branch not in flat and branch != NOTHING:
                flat.append(branch)
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str) and schema.keys().isdisjoint({"enum", "const"}):
        return {**schema, "type": [schema["type"], "null"]}
    return one_of(schema, NULL)


def described(schema: Schema, description: str) -> Schema:
    """The same with a description before its own; a reference may have one beside it."""
    own = [schema["description"]] if "description" in schema else []
    return {**schema, "description": " ".join([description, *own])}


def object_with(members: Mapping[str, Schema], *optional: str) -> Schema:
    """An object with these members and no others, all of them there but the optional ones."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": dict(members), "required": required, "additionalProperties": False}


def json(description: str, schema: Schema, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(description, {"application/json": schema}, headers)
