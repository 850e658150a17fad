"""An answer as bytes: what leaves together, what may not leave at all."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.server.http.cycle import Cycle
from app.server.http.request_head import Head


class Wire:
    """A connection that notes what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.can_write = True
        self.answers = self.regulated = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def common_headers(self) -> bytes:
        return b"date: today\r\n"

    async def drain(self) -> None:
        self.can_write = True

    def regulate_reading(self) -> None:
        self.regulated += 1

    def answered(self) -> None:
        self.answers += 1


def cycle_of(wire: Wire, body: bytes | None = b"", method: str = "POST", version: str = "1.1", **facts: Any) -> Cycle:
    members: Mapping[str, Any] = {"keeps_alive": True, **facts}
    return Cycle(wire, Head(method, "/", b"/", b"", version, [], {}, **members), body)


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


@pytest.mark.parametrize("size", [2, 100_000])
async def test_a_whole_answer_is_one_write(size: int) -> None:
    wire, body = Wire(), b"x" * size
    cycle = cycle_of(wire)
    await cycle.send(start((b"content-length", b"%d" % size)))
    assert wire.writes == []
    await cycle.send(part(body))
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: %d\r\n\r\n" % size + body]
    assert (wire.answers, cycle.keeps_alive, cycle.is_answered) == (1, True, True)


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("HEAD", b"")])
async def test_an_answer_of_one_message_is_complete(method: str, body: bytes) -> None:
    wire = Wire()
    cycle = cycle_of(wire, method=method)
    await cycle.send({**start((b"content-length", b"2")), "body": b"{}"})
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\n" + body]
    assert (wire.answers, cycle.keeps_alive, cycle.is_answered) == (1, True, True)


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
    assert not cycle.keeps_alive


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
    cycle.lost()
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
    await cycle.send(start((b"content-length", b"0"), *([(b"connection", b"Close")] if by == "app" else [])))
    await cycle.send(part(b""))
    assert wire.writes[0].count(b"connection: close\r\n") == 1
    assert not cycle.keeps_alive


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
    cycle.lost()
    assert await receiving == {"type": "http.disconnect"}
    assert gone.is_set()
    gone.clear()
    cycle.watch(gone.set)
    assert gone.is_set()


async def test_a_body_that_is_none_is_told_to_the_app_and_is_the_last() -> None:
    wire = Wire()
    cycle = cycle_of(wire, None)
    cycle.feed(b"half")
    cycle.fail(InvalidRequestError("no body"))
    with pytest.raises(InvalidRequestError, match="no body"):
        await cycle.receive()
    await cycle.send(start((b"content-length", b"0"), status=400))
    await cycle.send(part(b""))
    assert b"connection: close\r\n" in wire.writes[0]
    assert await cycle.receive() == {"type": "http.disconnect"}


@pytest.mark.parametrize("began", [True, False])
async def test_an_answer_before_the_client_was_told_to_go_on_is_the_last(began: bool) -> None:
    cycle = cycle_of(Wire(), None, expects_continue=True)
    if began:
        cycle.feed(b"unasked")
    await cycle.send(start((b"content-length", b"0"), status=413))
    await cycle.send(part(b""))
    assert cycle.keeps_alive is began


async def test_the_app_takes_what_is_here_before_more_is_read() -> None:
    wire = Wire()
    cycle = cycle_of(wire, None)
    cycle.feed(b"x" * 65_537)
    assert cycle.is_full
    await cycle.receive()
    assert (cycle.is_full, wire.regulated) == (False, 1)


async def test_a_probe_is_no_part_of_an_answer_that_has_not_begun() -> None:
    wire = Wire()
    cycle = cycle_of(wire)
    assert [cycle.probe() for _ in range(2)] == [True, False]
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_a_probe_in_a_stream_is_the_first_digit_of_its_next_chunk() -> None:
    for body, rest in ((b"one", b"3\r\none\r\n0\r\n\r\n"), (b"", b"0\r\n\r\n")):
        wire = Wire()
        cycle = cycle_of(wire)
        await cycle.send(start())
        assert not cycle.probe()
        await asyncio.sleep(0)
        assert cycle.probe()
        await cycle.send(part(body))
        assert b"".join(wire.writes).endswith(b"\r\n\r\n0" + rest)


async def test_an_answer_that_has_no_room_for_a_probe_gets_none() -> None:
    old, whole, slow = cycle_of(Wire(), version="1.0"), cycle_of(Wire()), cycle_of(Wire())
    await whole.send(start((b"content-length", b"1")))
    slow._connection.can_write = False
    assert not any(cycle.probe() for cycle in (old, whole, slow))
