"""The document is valid, whole, and made when it is asked for."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.api import routes
from app.api.application import Application
from app.api.openapi.document import OPERATIONS, call_name

_READS_A_BODY = re.compile(r"\b(?:body_reader\.read|read_form|read_nothing|answer_once|_control)\(")
_ROOT = Path(__file__).parents[3]
_MAY_HAVE_NONE = {
    *("create_conversation", "block_key", "unblock_key", "revoke_key"),
    *("try_account", "enable_account", "drain_account", "disable_account"),
}


@pytest.fixture(scope="module")
def endpoints(gateway: Application) -> list[APIRoute]:
    return [route for route in gateway.routes if isinstance(route, APIRoute)]


def operations(told: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of each call under /v1 and /admin/v1."""
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            if operation["tags"] != ["health"]:
                yield path, method, operation


def test_it_is_valid_openapi(told: dict[str, Any]) -> None:
    assert told["openapi"] == "3.1.0"
    assert [(error.json_path, error.message) for error in OpenAPIV31SpecValidator(told).iter_errors()] == []


def test_it_has_every_route_and_says_of_no_other(told: dict[str, Any], endpoints: list[APIRoute]) -> None:
    served = {
        (re.sub(r":path}", "}", route.path), method.lower()) for route in endpoints for method in route.methods or ()
    }
    assert {(path, method) for path, methods in told["paths"].items() for method in methods} == served
    assert {*OPERATIONS} == {call_name(route) for route in endpoints}
    names = [operation["operationId"] for methods in told["paths"].values() for operation in methods.values()]
    assert len(names) == len({*names})


def test_a_call_that_reads_a_body_has_one_in_the_document_and_no_other_has(
    told: dict[str, Any], endpoints: list[APIRoute]
) -> None:
    direct = [type(route.app) for route in endpoints if isinstance(route, routes.DirectRoute)]
    reads = {call_name(route): _READS_A_BODY.search(inspect.getsource(route.endpoint)) for route in endpoints}
    reading = {name for name, found in reads.items() if found}
    reading |= {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in direct}
    described = {
        operation["operationId"]: operation["requestBody"]["required"]
        for _, _, operation in operations(told)
        if "requestBody" in operation
    }
    assert {*described} == reading
    assert {name for name, is_required in described.items() if not is_required} == _MAY_HAVE_NONE


def test_every_call_says_what_it_takes_answers_and_refuses(told: dict[str, Any]) -> None:
    for path, method, operation in operations(told):
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", path)
        assert operation["description"], path
        assert all(each["description"] for each in operation["parameters"]), path
        answers = operation["responses"]
        good = [answer for status, answer in answers.items() if status.startswith("2")]
        assert good, path
        assert all(content["schema"] for answer in good for content in answer["content"].values()), path
        assert {"401", "403", "429", "431", "500", "503"} <= answers.keys(), (path, method)
        assert {"400", "408", "413", "415"} <= answers.keys() or "requestBody" not in operation, (path, method)
        assert "404" in answers or not named, (path, method)


def test_every_call_but_a_probe_asks_for_a_key(told: dict[str, Any]) -> None:
    assert told["security"] == [{"bearer": []}]
    assert told["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    for methods in told["paths"].values():
        for operation in methods.values():
            assert (operation.get("security") == []) is (operation["tags"] == ["health"])


def test_every_schema_that_is_named_is_there_and_each_is_named(told: dict[str, Any]) -> None:
    named = {*references(told)}
    kept = told["components"]
    there = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in kept[kind]}
    assert named == there


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            else:
                yield from references(each)


def test_a_gateway_that_is_not_asked_for_it_does_not_even_read_the_code_for_it() -> None:
    others = [path for path in (_ROOT / "app").rglob("*.py") if path.parent.name != "openapi"]
    early = re.compile(r"^(?:from|import) +app\.api\.openapi\.?(\w*)", re.MULTILINE)
    read = {name for path in others for name in early.findall(path.read_text())}
    assert read == {"endpoints"}
    assert early.findall((_ROOT / "app" / "api" / "openapi" / "endpoints.py").read_text()) == []
