"""Hold what a gateway takes and answers against its own OpenAPI document, in every test that runs one.

`Described` wraps the app and passes everything on as it comes. What is not as the document says is in `faults`.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api.canonical_path import canonical_path
from app.api.openapi.document import document
from app.wire.sse import event_data

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Of a larger body nothing is kept here: tests count the bytes that a gateway holds.
_MOST_BYTES = 256 * 1024
_FIRST_ERROR = 400
_ROOT = "urn:document"


class Description:
    """The document of the app's routes, as validators that are made once."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.document = told
        # What is written out goes before what stands for anything.
        ordered = sorted(told["paths"], key=lambda path: (path.count("{"), -len(path)))
        self._paths = [(_pattern(path), path) for path in ordered]
        self._validators: dict[str, Any] = {}

    def documented(self) -> set[tuple[str, str, str]]:
        """Each answer that there may be: of which call, of what status and media type ("" for none)."""
        return {
            (operation["operationId"], status, media_type)
            for methods in self.document["paths"].values()
            for operation in methods.values()
            for status in operation["responses"]
            for media_type in (self.answer(operation, status) or {}).get("content") or [""]
        }

    def find(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        """The template of this path and the operation; None for what the document does not have."""
        for pattern, template in self._paths:
            operation = self.document["paths"][template].get(method.lower())
            if operation is not None and pattern.fullmatch(path):
                return template, operation
        return None

    def answer(self, operation: dict[str, Any], status: int | str) -> dict[str, Any] | None:
        """What the operation says of answers of this status."""
        told: dict[str, Any] | None = operation["responses"].get(str(status), operation["responses"].get("default"))
        if told is not None and "$ref" in told:
            told = self.document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        return told

    def faults(self, schema: dict[str, Any], value: object) -> list[str]:
        """What keeps this value from passing the schema."""
        key = schema.get("$ref") or json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            whole = {**schema, "components": {"schemas": self.document["components"]["schemas"]}}
            self._validators[key] = jsonschema_rs.validator_for(whole)
        validator = self._validators[key]
        if validator.is_valid(value):
            return []
        return [f"{error.instance_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def _pattern(path: str) -> re.Pattern[str]:
    """The paths of this template. Models and accounts may have slashes."""
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", re.sub(r"\{(?:model_id|account)\}", ".+", path)))


_made: dict[frozenset[str], Description] = {}


def description(app: FastAPI) -> Description:
    """The description of a gateway, made once for all that serve the same."""
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    served = frozenset(route.path for route in routes)
    if served not in _made:
        _made[served] = Description(document(routes))
    return _made[served]


@dataclass
class _Call:
    """One call as it passes. What is too large is let go of."""

    method: str
    path: str
    asked: bytearray | None = field(default_factory=bytearray)
    answered: bytearray | None = field(default_factory=bytearray)
    status: int = 0
    media_type: str = ""
    is_whole: bool = False

    def hear(self, piece: bytes) -> None:
        self.asked = _grown(self.asked, piece)

    def say(self, piece: bytes) -> None:
        self.answered = _grown(self.answered, piece)


def _grown(kept: bytearray | None, piece: bytes) -> bytearray | None:
    if kept is None or len(kept) + len(piece) > _MOST_BYTES:
        return None
    kept += piece
    return kept


class _Connection:
    """The connection of a call, with what is written to it and read from it at once."""

    def __init__(self, connection: Any, call: _Call) -> None:
        self._connection = connection
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def push(self, body: bytes) -> bool:
        is_written: bool = self._connection.push(body)
        if is_written:
            self._call.say(body)
        return is_written

    def take_whole(self, most: int) -> bytes | None:
        body: bytes | None = self._connection.take_whole(most)
        if body is not None:
            self._call.hear(body)
        return body


class Described:
    """The app, with each of its calls held against the document. `seen` are those: call, status, media type."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.description = description(app)
        self.faults: list[str] = []
        self.seen: set[tuple[str, str, str]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope["method"], canonical_path(scope["raw_path"]))
        is_packed = any(name == b"content-encoding" for name, _ in scope["headers"])

        async def hear() -> Message:
            message = await receive()
            call.hear(message.get("body", b""))
            return message

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                named = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
                call.media_type = named[0].decode("latin-1").partition(";")[0].strip().lower() if named else ""
            if "body" in message:
                call.say(message["body"])
                call.is_whole = not message.get("more_body", False)
            await send(message)

        ours = scope.get("extensions", {}).get("antiphon")
        if ours is not None:
            # The scope's own, which this call alone has.
            ours["connection"] = _Connection(ours["connection"], call)
        try:
            await self._app(scope, hear, say)
        finally:
            if is_packed:
                call.asked = None
            self._note(call)

    def check(self) -> None:
        """Raise AssertionError where anything was not as the document says."""
        if self.faults:
            raise AssertionError("\n".join(["not as the OpenAPI document says:", *self.faults[:20]]))

    def _note(self, call: _Call) -> None:
        found = self.description.find(call.method, call.path)
        if found is None or not call.status:
            return
        template, operation = found
        self.faults += [f"{call.method} {template} {call.status}: {fault}" for fault in self._faults(call, operation)]
        named = "default" if str(call.status) not in operation["responses"] else str(call.status)
        answer = self.description.answer(operation, call.status)
        self.seen.add((operation["operationId"], named, call.media_type if answer and answer.get("content") else ""))

    def _faults(self, call: _Call, operation: dict[str, Any]) -> Iterator[str]:
        answer = self.description.answer(operation, call.status)
        if answer is None:
            yield "a status that the document does not have"
            return
        if call.status < _FIRST_ERROR and call.asked:
            body = operation.get("requestBody")
            if body is None:
                yield "a body that the document does not have"
            else:
                schema = body["content"]["application/json"]["schema"]
                yield from self._of_json(schema, bytes(call.asked), f"body {bytes(call.asked[:200])!r}")
        if not call.is_whole or call.answered is None or not answer.get("content"):
            return
        told = answer["content"].get(call.media_type)
        if told is None:
            yield f"a media type that the document does not have: {call.media_type}"
        elif call.media_type == "application/json":
            yield from self._of_json(told["schema"], bytes(call.answered), f"answer {bytes(call.answered[:200])!r}")
        elif "x-event-schema" in told:
            for frame in re.split(rb"\r\n\r\n|\n\n|\r\r", bytes(call.answered)):
                if (data := event_data(frame)) and data.strip() != b"[DONE]":
                    yield from self._of_json(told["x-event-schema"], data, f"event {data[:200]!r}")

    def _of_json(self, schema: dict[str, Any], raw: bytes, name: str) -> list[str]:
        try:
            value = json.loads(raw)
        except ValueError:
            # Some tests are about what is no JSON, or no Unicode.
            return []
        try:
            return [f"{name}: {fault}" for fault in self.description.faults(schema, value)]
        except (UnicodeError, ValueError, RecursionError):
            return []
