"""An answer as bytes: what leaves together, what may not leave at all."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from app.server.cycle import Cycle
from app.server.head import Head


class Wire:
    """A connection that notes what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_lost = self.is_closed = False
        self.can_write = True
        self.answers = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.is_closed = True

    def common_headers(self) -> bytes:
        return b"date: today\r\n"

    async def drain(self) -> None:
        self.can_write = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def answered(self) -> None:
        self.answers += 1


def cycle_of(wire: Wire, body: bytes | None = b"", method: str = "POST", version: str = "1.1", **facts: Any) -> Cycle:
    members: Mapping[str, Any] = {"keeps_alive": True, **facts}
    expects = bool(members.get("expects_continue"))
    head = Head(method, "/", b"/", b"", version, [], {}, bool(members["keeps_alive"]))
    return Cycle(wire, head, body, expects_continue=expects)


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


@pytest.mark.parametrize("size", [2, 100_000])
async def test_a_whole_answer_is_one_write(size: int) -> None:
    wire, body = Wire(), b"x" * size
    cycle = cycle_of(wire)
    await cycle.send(start((b"Content-Length", b"%d" % size)))
    assert wire.writes == []
    await cycle.send(part(body))
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: %d\r\n\r\n" % size + body]
    assert (wire.answers, wire.is_closed, cycle.is_answered) == (1, False, True)


async def test_a_stream_begins_with_its_first_piece() -> None:
    wire = Wire()
    cycle = cycle_of(wire)
    await cycle.send(start(status=529))
    await cycle.send(part(b"one", more=True))
    assert cycle.push(b"two")
    await cycle.send(part(b""))
    await asyncio.sleep(0)
    assert wire.writes == [
        b"HTTP/1.1 529 \r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        b"3\r\ntwo\r\n",
        b"0\r\n\r\n",
    ]
    assert not cycle.push(b"three")


async def test_a_client_that_knows_no_chunks_reads_to_the_end_of_the_connection() -> None:
    wire = Wire()
    cycle = cycle_of(wire, version="1.0")
    await cycle.send(start())
    await cycle.send(part(b"one", more=True))
    assert not cycle.push(b"two")
    await cycle.send(part(b"two", more=True))
    await cycle.send(part(b""))
    assert b"".join(wire.writes) == b"HTTP/1.1 200 OK\r\ndate: today\r\nconnection: close\r\n\r\nonetwo"
    assert wire.is_closed


async def test_a_streams_head_waits_for_nothing() -> None:
    wire = Wire()
    cycle = cycle_of(wire)
    await cycle.send(start())
    await asyncio.sleep(0)
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n"]
    assert cycle.push(b"one")
    assert wire.writes[1:] == [b"3\r\none\r\n"]


async def test_a_piece_is_not_pushed_onto_a_client_that_reads_slowly() -> None:
    wire = Wire()
    cycle = cycle_of(wire)
    assert not cycle.push(b"too early")
    await cycle.send(start())
    wire.can_write = False
    assert not cycle.push(b"one")
    await cycle.send(part(b"one", more=True))
    assert wire.can_write
    wire.is_lost = True
    assert not cycle.push(b"two")
    await cycle.send(part(b"two"))
    assert len(wire.writes) == 1


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_that_would_be_two_ends_the_answer(value: bytes) -> None:
    wire = Wire()
    with pytest.raises(RuntimeError, match="line break"):
        await cycle_of(wire).send(start((b"x-request-id", value)))
    assert wire.writes == []


async def test_an_answer_is_as_long_as_it_says() -> None:
    for body in (b"long", b"s"):
        cycle = cycle_of(Wire())
        await cycle.send(start((b"content-length", b"2")))
        with pytest.raises(RuntimeError, match="not as long"):
            await cycle.send(part(body))


async def test_the_parts_of_an_answer_have_their_order() -> None:
    cycle = cycle_of(Wire())
    with pytest.raises(RuntimeError, match="no time for"):
        await cycle.send(part(b""))
    await cycle.send(start((b"content-length", b"0")))
    with pytest.raises(RuntimeError, match="no time for"):
        await cycle.send(start())
    await cycle.send(part(b""))
    with pytest.raises(RuntimeError, match="no time for"):
        await cycle.send(part(b""))


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_has_none(method: str, status: int) -> None:
    wire = Wire()
    cycle = cycle_of(wire, method=method)
    await cycle.send(start(status=status))
    await cycle.send(part(b"" if status != 200 else b"body"))
    assert b"".join(wire.writes).endswith(b"date: today\r\n\r\n")
    assert cycle.is_answered


@pytest.mark.parametrize("by", ["client", "app"])
async def test_the_last_answer_says_so_and_ends_the_connection(by: str) -> None:
    wire = Wire()
    cycle = cycle_of(wire, keeps_alive=by != "client")
    await cycle.send(start((b"content-length", b"0"), *([(b"Connection", b"Close")] if by == "app" else [])))
    await cycle.send(part(b""))
    assert wire.writes[0].count(b"connection: close\r\n") == 1
    assert wire.is_closed


async def test_a_client_is_told_to_go_on_when_its_body_is_asked_for_and_not_before() -> None:
    wire = Wire()
    cycle = cycle_of(wire, None, expects_continue=True)
    receiving = asyncio.create_task(cycle.receive())
    await asyncio.sleep(0)
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    cycle.feed(b"on")
    cycle.feed(b"e")
    assert await receiving == {"type": "http.request", "body": b"one", "more_body": True}
    cycle.end()
    assert await cycle.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_after_the_body_comes_the_end_of_the_client() -> None:
    wire, gone = Wire(), asyncio.Event()
    cycle = cycle_of(wire, b"all")
    cycle.watch(gone.set)
    assert (await cycle.receive())["body"] == b"all"
    receiving = asyncio.create_task(cycle.receive())
    await asyncio.sleep(0)
    assert not receiving.done()
    wire.is_lost = True
    cycle.lost()
    assert await receiving == {"type": "http.disconnect"}
    assert gone.is_set()
    gone.clear()
    cycle.watch(gone.set)
    assert gone.is_set()
