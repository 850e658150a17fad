"""Write the OpenAPI document as one page of HTML, with no script and nothing from elsewhere."""

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from app.api.openapi.style import STYLE

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may load and run nothing, and stand in no frame."""

_CODE = re.compile(r"`([^`]+)`")
_SCHEMAS = "#/components/schemas/"
_RESPONSES = "#/components/responses/"
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")


def page_of(document: Mapping[str, Any]) -> str:
    """The page: each call with its parameters, body and answers, then each schema that they name."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    body = "".join(_parts(document))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><header><h1>{_text(title)}</h1>{_paragraphs(info['description'])}"
        '<p><a href="openapi.json">The OpenAPI document</a></p></header>'
        f"<main>{body}</main></body></html>"
    )


def _parts(document: Mapping[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        calls = [
            _call(path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        yield f'<section><h2 id="{_text(tag["name"])}">{_text(tag["name"])}</h2>{_paragraphs(tag["description"])}'
        yield f"{''.join(calls)}</section>"
    yield '<section><h2 id="errors">Errors</h2>'
    yield from (
        f'<div id="{_text(name)}"><b>{_text(name)}</b>{_answer(error)}</div>'
        for name, error in document["components"]["responses"].items()
    )
    yield "</section>"
    schemas = document["components"]["schemas"]
    yield '<section><h2 id="schemas">Schemas</h2>'
    yield from (
        f'<details id="{_text(name)}"><summary><b>{_text(name)}</b></summary>{_schema(schema)}</details>'
        for name, schema in sorted(schemas.items())
    )
    yield "</section>"


def _call(path: str, method: str, operation: Mapping[str, Any]) -> str:
    anchor = _text(operation["operationId"])
    parts = [_paragraphs(operation["description"])]
    if operation["parameters"]:
        rows = [
            _row(
                f"{each['name']} <i>{each['in']}</i>", each["schema"], each["description"], each.get("required", False)
            )
            for each in operation["parameters"]
        ]
        parts.append(f"<h4>Parameters</h4>{_table(rows)}")
    if "requestBody" in operation:
        needed = "" if operation["requestBody"]["required"] else " <i>optional</i>"
        parts.append(f"<h4>Body{needed}</h4>{_contents(operation['requestBody']['content'])}")
    answers = operation["responses"].items()
    parts.append("<h4>Answers</h4>")
    parts += [f"<div><b>{status}</b>{_answer(answer)}</div>" for status, answer in answers if "$ref" not in answer]
    refused = [(status, answer["$ref"].removeprefix(_RESPONSES)) for status, answer in answers if "$ref" in answer]
    links = [f'<a href="#{_text(name)}">{_text(status)}</a>' for status, name in refused]
    parts += [f"<div>Errors: {' '.join(links)}</div>"] if links else []
    return (
        f'<details id="{anchor}"><summary><b class="{method}">{method.upper()}</b> <code>{_text(path)}</code> '
        f"{_text(operation['summary'])}</summary>{''.join(parts)}</details>"
    )


def _answer(answer: Mapping[str, Any]) -> str:
    contents = _contents(answer.get("content", {}))
    headers = [name for name in answer["headers"] if name != "x-request-id"]
    told = f"<p>Headers: {', '.join(f'<code>{_text(name)}</code>' for name in headers)}</p>" if headers else ""
    return f" {_inline(answer['description'])}{contents}{told}"


def _contents(content: Mapping[str, Any]) -> str:
    return "".join(
        f"<p><code>{_text(kind)}</code>: {_kind(each.get('x-event-schema', each['schema']))}</p>"
        for kind, each in content.items()
    )


def _schema(schema: Mapping[str, Any]) -> str:
    words = _paragraphs(schema["description"]) if "description" in schema else ""
    if "properties" not in schema:
        branches = [
            f"<li>{_kind(branch)}{_schema(branch) if 'properties' in branch else ''}</li>"
            for branch in schema.get("anyOf", ())
        ]
        return words + (f"<ul>{''.join(branches)}</ul>" if branches else f"<p>{_kind(schema)}</p>")
    required = schema.get("required", ())
    rows = []
    for name, member in schema["properties"].items():
        told = member if isinstance(member, dict) else {}
        rows.append(_row(_text(name), told, told.get("description", ""), name in required))
        if "properties" in told:
            rows.append(f'<tr><td colspan="3">{_schema({**told, "description": ""})}</td></tr>')
    return words + _table(rows)


def _row(name: str, schema: Mapping[str, Any], description: str, is_required: bool) -> str:  # noqa: FBT001 - a column
    star = " <b>required</b>" if is_required else ""
    return f"<tr><td><code>{name}</code>{star}</td><td>{_kind(schema)}</td><td>{_inline(description)}</td></tr>"


def _table(rows: list[str]) -> str:
    return f"<table>{''.join(rows)}</table>"


def _kind(schema: Mapping[str, Any]) -> str:
    """The schema in a few words."""
    if "$ref" in schema:
        name = _text(schema["$ref"].removeprefix(_SCHEMAS))
        return f'<a href="#{name}">{name}</a>'
    if "const" in schema:
        return f"<code>{_value(schema['const'])}</code>"
    if "enum" in schema:
        return " ".join(f"<code>{_value(value)}</code>" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(branch) for branch in schema["anyOf"])
    kinds = schema.get("type", "anything")
    words = _text(" or ".join(kinds) if isinstance(kinds, list) else kinds)
    if "items" in schema:
        words += f" of {_kind(schema['items'])}"
    bounds = [f"{name} {schema[name]}" for name in _BOUNDS if name in schema]
    return words + (f" <i>{_text(', '.join(bounds))}</i>" if bounds else "")


def _value(value: object) -> str:
    return _text(value if isinstance(value, str) else orjson.dumps(value).decode())


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part)


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    return html.escape(text)
