"""Make the OpenAPI document of the routes: what each call takes and answers, and the schemas that this refers to."""

import inspect
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi.routing import APIRoute

from app import __version__
from app.api.openapi import admin_schemas, error_answers, object_schemas, request_schemas
from app.api.openapi.admin_operations import ADMIN_OPERATIONS
from app.api.openapi.api_operations import API_OPERATIONS
from app.api.openapi.operation import Answer, Operation, Parameter

OPERATIONS: Mapping[str, Operation] = MappingProxyType({**API_OPERATIONS, **ADMIN_OPERATIONS})
"""Holds the description of each call, by its name."""

_PROBES = "health"
_PLACEHOLDER = re.compile(r"\{(\w+)(:path)?\}")
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
_IDS = {
    "response_id": "Id of the response.",
    "conversation_id": "Id of the conversation.",
    "item_id": "Id of the item.",
    "model_id": "Name of the model, which may have slashes.",
    "project_id": "Id of the project.",
    "key_id": "Id of the key.",
    "name": "Name of the upstream.",
    "account": "Name of the account: `upstream/digest`, with the slash.",
}
_ABOUT = """\
A self-hosted gateway for the OpenAI Responses API.

Every call has a key as the bearer; with `admin` or `admin:read` among its scopes, or as the master key, it goes to \
`/admin/v1` too. Every error has OpenAI's envelope. `/v1` may be left out, and a slash at a path's end is ignored. \
Beside the calls below, `/v1/responses` takes a WebSocket: each message is a create body with the `type` \
`response.create`, each answer the events of a stream.\
"""
_TAGS = {
    "api": "The Responses API, with an API key.",
    "admin": "Administration, for the holders of the master key or of a key with an admin scope.",
    _PROBES: "Probes, without a key.",
}


def document(routes: Iterable[APIRoute]) -> dict[str, Any]:
    """The document of these routes (OpenAPI 3.1). Raises KeyError for a route of which nothing is said."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PLACEHOLDER.sub(r"{\1}", route.path)
        for method in sorted(route.methods or ()):
            paths.setdefault(path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Antiphon", "version": __version__, "description": _ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": error_answers.components(),
            "schemas": {
                **request_schemas.components(),
                **object_schemas.components(),
                **admin_schemas.components(),
            },
        },
    }


def call_name(route: APIRoute) -> str:
    """The name of a route's call in the tables of operations."""
    return _CAPITAL.sub("_", route.name).lower()


def _operation(route: APIRoute, method: str) -> dict[str, Any]:
    name = call_name(route)
    told = OPERATIONS[name]
    is_probe = _PROBES in route.tags
    unique = name if not is_probe else f"{method.lower()}_{route.path.strip('/')}"
    operation: dict[str, Any] = {
        "operationId": unique,
        "summary": name.replace("_", " ").capitalize(),
        "description": inspect.cleandoc(route.endpoint.__doc__ or ""),
        "tags": list(route.tags),
        "parameters": [*_path_parameters(route.path), *map(Parameter.told, told.parameters)],
        "responses": _answers(told, is_probe=is_probe, is_head=method == "HEAD"),
    }
    if is_probe:
        operation["security"] = []
    if told.body is not None:
        operation["requestBody"] = {
            "required": told.needs_body,
            "content": {"application/json": {"schema": told.body}},
        }
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": _IDS[name], "schema": {"type": "string"}}
        for name, _ in _PLACEHOLDER.findall(path)
    ]


def _answers(told: Operation, *, is_probe: bool, is_head: bool) -> dict[str, Any]:
    answers: dict[str, Any] = {
        str(status): _answer(answer, is_head=is_head) for status, answer in sorted(told.answers.items())
    }
    if not is_probe:
        statuses = sorted({*error_answers.EVERY_CALL, *told.errors})
        answers |= {str(status): error_answers.error(status) for status in statuses}
    if told.relays_errors:
        answers[error_answers.DEFAULT] = error_answers.error(error_answers.DEFAULT)
    return answers


def _answer(answer: Answer, *, is_head: bool) -> dict[str, Any]:
    headers = {"x-request-id": dict(error_answers.REQUEST_ID)}
    headers |= {
        name: {"description": words, "schema": {"type": "string"}} for name, words in (answer.headers or {}).items()
    }
    told: dict[str, Any] = {"description": answer.description, "headers": headers}
    if not is_head:
        told["content"] = {kind: _content(kind, schema) for kind, schema in answer.content.items()}
    return told


def _content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    if kind != "text/event-stream":
        return {"schema": schema}
    # OpenAPI has a word for the elements of a stream from 3.2 on.
    return {"schema": {"type": "string"}, "x-event-schema": schema}
