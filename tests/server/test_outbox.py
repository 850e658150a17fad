"""What one turn of the loop writes leaves at its end, in its order, and to nobody who is gone."""

import asyncio
from typing import Any

from app.outbox import Outbox


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def is_closing(self) -> bool:
        return self.closed


async def test_a_turns_writes_to_one_transport_are_one() -> None:
    outbox = Outbox()
    one, other = Transport(), Transport()
    to_one: Any = one
    to_other: Any = other
    outbox.write(to_one, b"a")
    outbox.write(to_other, b"b")
    outbox.write(to_one, b"c")
    assert one.sent == other.sent == []
    await asyncio.sleep(0)
    assert (one.sent, other.sent) == ([b"ac"], [b"b"])
    outbox.write(to_one, b"d")
    await asyncio.sleep(0)
    assert one.sent == [b"ac", b"d"]


async def test_what_must_not_be_overtaken_is_sent_at_once_and_once() -> None:
    outbox = Outbox()
    transport = Transport()
    to: Any = transport
    outbox.write(to, b"a")
    outbox.send()
    assert transport.sent == [b"a"]
    await asyncio.sleep(0)
    assert transport.sent == [b"a"]


async def test_nothing_is_sent_to_who_is_gone() -> None:
    outbox = Outbox()
    transport = Transport()
    to: Any = transport
    outbox.write(to, b"a")
    transport.closed = True
    await asyncio.sleep(0)
    assert transport.sent == []
