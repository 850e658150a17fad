"""Frames that break the protocol (RFC 6455 §7.4.1): the client is told by which code, and the log has no line of it."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import RawClient, head

pytestmark = pytest.mark.live

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
MASK = b"\1\2\3\4"
BREAKING: dict[str, tuple[int, list[tuple[int, bytes | None, dict[str, bool]]]]] = {
    "text that is not UTF-8": (1007, [(TEXT, b"\xff\xfe", {})]),
    "text that is not UTF-8 in its last fragment": (1007, [(TEXT, b"\xc3", {"fin": False}), (0, b"\xff", {})]),
    "a frame without a mask": (1002, [(TEXT, b"{}", {"mask": False})]),
    "a continuation of nothing": (1002, [(0, b"x", {})]),
    "a message within another": (1002, [(TEXT, b"{", {"fin": False}), (TEXT, b"}", {})]),
    "an operation that there is not": (1002, [(3, b"x", {})]),
    "a long ping": (1002, [(PING, b"x" * 126, {})]),
    "a ping in fragments": (1002, [(PING, b"x", {"fin": False})]),
    "a reserved bit": (1002, [(TEXT | 0x40, b"{}", {})]),
    "a close of one byte": (1002, [(CLOSE, b"x", {})]),
    "a close with a code that there is not": (1002, [(CLOSE, struct.pack(">H", 1004), {})]),
    "a close whose reason is not UTF-8": (1007, [(CLOSE, struct.pack(">H", 1000) + b"\xff", {})]),
    "a message that is too large": (1009, [(TEXT, None, {})]),
}


def frame(operation: int, data: bytes | None, *, fin: bool = True, mask: bool = True) -> bytes:
    """One frame; of one without data only the length is there, which is too large."""
    length = 1 << 40 if data is None else len(data)
    size = bytes([length]) if length < 126 else bytes([126]) + struct.pack(">H", length) if length < 65_536 else b""
    size = size or bytes([127]) + struct.pack(">Q", length)
    start = bytes([(0x80 if fin else 0) | operation, (0x80 if mask else 0) | size[0]]) + size[1:]
    if not mask:
        return start + (data or b"")
    return start + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(data or b""))


@asynccontextmanager
async def opened(gateway: LiveGateway) -> AsyncIterator[RawClient]:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(bytes(16)).decode(),
    }
    async with RawClient.to(gateway.url) as client:
        await client.send(head("GET", "/v1/responses", {**gateway.headers(), **upgrade}))
        assert (await client._head())[0] == 101
        yield client


async def answer_to(gateway: LiveGateway, frames: list[tuple[int, bytes | None, dict[str, bool]]]) -> bytes:
    async with opened(gateway) as client:
        await client.send(b"".join(frame(operation, data, **how) for operation, data, how in frames))
        return await client.rest()


async def test_a_frame_that_breaks_the_protocol_ends_it_by_its_code_and_leaves_no_error_in_the_log(
    sqlite_gateway: LiveGateway, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        # All at once, because each is closed a moment after it was told.
        answers = await asyncio.gather(*[answer_to(sqlite_gateway, frames) for _, frames in BREAKING.values()])
    for (name, (code, _)), rest in zip(BREAKING.items(), answers, strict=True):
        assert rest[0] == 0x80 | CLOSE, name
        assert struct.unpack(">H", rest[2:4])[0] == code, name
    assert [line for line in logged if line["log_level"] in ("warning", "error", "critical")] == []
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")] == []


async def test_fragments_with_a_ping_between_them_are_a_message(sqlite_gateway: LiveGateway) -> None:
    async with opened(sqlite_gateway) as client:
        await client.send(frame(TEXT, b'{"type": ', fin=False) + frame(PING, b"p") + frame(0, b'"no"}'))
        rest = await client._reader.readuntil(b"}}")
    assert rest.startswith(b"\x8a\x01p")
    assert b'"error"' in rest
