"""What holds live gateways against the document notices each kind of lie."""

from collections.abc import MutableMapping
from typing import Any

import httpx2
import pytest

from app.api.application import Application
from tests.fakes.described import Described

_RESPONSE = b'{"id":"resp_1","output":[]}'


class Liar:
    """The routes of a gateway, and one answer to whatever it is asked."""

    def __init__(self, gateway: Application, status: int, media_type: str, body: bytes) -> None:
        self.routes = gateway.routes
        self._answer = status, media_type.encode(), body

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        status, media_type, body = self._answer
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type)]})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("call", "asked", "answer", "fault"),
    [
        ("POST /v1/responses", b'{"model":"m","input":"x"}', (200, "application/json", _RESPONSE), None),
        ("GET /v1/models", b"", (418, "application/json", b"{}"), "a status that the document does not have"),
        ("GET /v1/models", b"", (200, "text/plain", b"{}"), "a media type that the document does not have"),
        ("GET /v1/models", b"", (200, "application/json", b"{}"), "is a required property"),
        ("GET /v1/models", b"", (500, "application/json", b'{"error":"x"}'), "is not of type"),
        ("POST /v1/conversations", b'{"x":1}', (200, "application/json", b"{}"), "Additional properties"),
        ("POST /v1/responses", b'{"input":"x"}', (200, "application/json", _RESPONSE), "is not valid under any of"),
        ("DELETE /v1/responses/resp_1", b"{}", (200, "application/json", b"{}"), "a body that the document does not"),
        (
            "POST /v1/responses",
            b'{"model":"m","input":"x"}',
            (200, "text/event-stream; charset=utf-8", b'data: {"type":"x"}\n\ndata: {"type":1}\n\n'),
            "is not valid under any of",
        ),
    ],
)
async def test_what_the_document_does_not_say_is_noticed(
    call: str, asked: bytes, answer: tuple[int, str, bytes], fault: str | None, gateway: Application
) -> None:
    method, path = call.split()
    described = Described(Liar(gateway, *answer))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(described), base_url="http://gateway") as client:
        assert (await client.request(method, path, content=asked)).content == answer[2]
    if fault is None:
        described.check()
        return
    with pytest.raises(AssertionError, match=fault):
        described.check()
