"""What one turn of the loop writes leaves together, in its order, and to nobody who is gone."""

import asyncio
from typing import Any

from app.runtime.write_coalescer import WriteCoalescer


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def is_closing(self) -> bool:
        return self.closed


async def test_the_first_write_of_a_turn_waits_for_nothing() -> None:
    coalescer, transport = WriteCoalescer(), Transport()
    to: Any = transport
    for number in range(3):
        coalescer.write(to, b"%d" % number)
        assert len(transport.sent) == number + 1
        await asyncio.sleep(0)


async def test_the_others_leave_at_its_end_each_transports_as_one() -> None:
    coalescer = WriteCoalescer()
    one, other = Transport(), Transport()
    to_one: Any = one
    to_other: Any = other
    for to, data in ((to_one, b"a"), (to_other, b"b"), (to_one, b"c"), (to_one, b"d")):
        coalescer.write(to, data)
    assert (one.sent, other.sent) == ([b"a"], [])
    await asyncio.sleep(0)
    assert (one.sent, other.sent) == ([b"a", b"cd"], [b"b"])


async def test_after_a_turn_of_several_the_first_waits_too_until_one_is_alone_again() -> None:
    coalescer, transports = WriteCoalescer(), [Transport() for _ in range(3)]
    to: list[Any] = [*transports]
    for turn, (writers, sent_at_once) in enumerate([(3, 1), (2, 0), (1, 0), (1, 1), (2, 1), (1, 0)]):
        for place in range(writers):
            coalescer.write(to[place], b"%d" % turn)
        assert sum(b"%d" % turn in transport.sent for transport in transports) == sent_at_once, turn
        await asyncio.sleep(0)
        assert sum(b"%d" % turn in transport.sent for transport in transports) == writers, turn


async def test_what_must_not_be_overtaken_is_sent_at_once_and_once() -> None:
    coalescer, transport = WriteCoalescer(), Transport()
    to: Any = transport
    coalescer.write(to, b"a")
    coalescer.write(to, b"b")
    coalescer.send()
    assert transport.sent == [b"a", b"b"]
    await asyncio.sleep(0)
    assert transport.sent == [b"a", b"b"]


async def test_nothing_is_sent_to_who_is_gone() -> None:
    coalescer, transport = WriteCoalescer(), Transport()
    to: Any = transport
    coalescer.write(to, b"a")
    coalescer.write(to, b"b")
    transport.closed = True
    await asyncio.sleep(0)
    assert transport.sent == [b"a"]


async def test_what_left_in_one_turn_does_not_leave_again_in_the_next() -> None:
    coalescer, transport = WriteCoalescer(), Transport()
    to: Any = transport
    for turn in (b"a", b"b"):
        for place in (b"1", b"2", b"3"):
            coalescer.write(to, turn + place)
        await asyncio.sleep(0)
        # The first of the second turn waits, as the turn before wrote more than one.
    assert b"".join(transport.sent) == b"a1a2a3b1b2b3"


async def test_a_transport_that_fails_is_aborted_and_the_others_get_their_bytes() -> None:
    class Broken(Transport):
        def write(self, data: bytes) -> None:
            if self.sent:
                raise OSError("broken")
            super().write(data)

        def abort(self) -> None:
            self.closed = True

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    coalescer, broken, fine = WriteCoalescer(), Broken(), Transport()
    for transport in (broken, broken, broken, fine, fine):
        to: Any = transport
        coalescer.write(to, b"x")
    await asyncio.sleep(0)
    assert broken.closed
    assert fine.sent == [b"xx"]
    assert [type(error) for error in told] == [OSError]
