"""A connection by itself: one request at a time, and what is held meanwhile."""

import asyncio

import pytest

from tests.fakes.connected import CHUNKED, LIVEZ, POST, AppFake, Connected, until


async def test_the_next_request_is_parsed_when_the_last_is_answered(connected: Connected, app: AppFake) -> None:
    await connected.sends(LIVEZ * 3)
    assert not connected.transport.is_reading
    for answered in (1, 2, 3):
        assert len(app.asked) == answered
        await app.answer()
        assert len(connected.statuses) == connected.state.total_requests == answered
        # Where the last is under way its client's end is to be seen.
        assert connected.transport.is_reading == (answered >= 2)


async def test_one_read_is_held_and_no_more(connected: Connected, app: AppFake) -> None:
    await connected.sends(LIVEZ, LIVEZ * 1000)
    assert not connected.transport.is_reading
    assert connected.held == len(LIVEZ) * 1000
    await app.answer(2)
    assert not connected.transport.is_reading
    assert len(connected.statuses) == 2


async def test_what_was_refused_is_held_no_longer(connected: Connected) -> None:
    await connected.sends(POST.replace(b"%d", b"x") + b"a" * 100_000)
    assert connected.statuses == [b"400"]
    assert connected.held == 0


async def test_what_nobody_wants_is_read_in_turn(connected: Connected) -> None:
    await connected.sends(POST.replace(b"%d", b"x"))
    connected.protocol.data_received(b"a" * 100_000)
    assert not connected.transport.is_reading
    await until(lambda: connected.transport.is_reading)
    assert connected.held == 0


async def test_others_are_served_between_requests_that_were_sent_together(connected: Connected, app: AppFake) -> None:
    app.may_answer = asyncio.Semaphore(1000)
    connected.protocol.data_received(LIVEZ * 1000)
    most = 0
    while len(connected.statuses) < 1000:
        before = len(connected.statuses)
        await asyncio.sleep(0)
        most = max(most, len(connected.statuses) - before)
    assert most == 1


async def test_many_small_chunks_are_read_in_turns(connected: Connected, app: AppFake) -> None:
    app.may_answer = asyncio.Semaphore(1)
    connected.protocol.data_received(CHUNKED + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
    assert not connected.transport.is_reading
    await until(lambda: connected.statuses)
    assert app.asked == [("POST", b"x" * 5000)]


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n"])
async def test_a_bad_request_is_refused_after_the_answers_before_it(
    connected: Connected, app: AppFake, bad: bytes
) -> None:
    await connected.sends(LIVEZ + b"DELETE / HTTP/1.1\r\nhost: a\r\n\r\n" + bad + LIVEZ)
    await app.answer(4)
    assert [method for method, _ in app.asked] == ["GET", "DELETE"]
    assert connected.statuses == [b"200", b"200", b"400"]
    assert connected.transport.is_ended


async def test_what_is_no_request_and_was_sent_under_an_answer_ends_the_connection_behind_it(
    connected: Connected, app: AppFake
) -> None:
    await connected.sends(LIVEZ, b"\x01\x02garbage\r\n\r\n")
    assert connected.transport.sent == b""
    await app.answer()
    assert connected.statuses == [b"200"]
    assert connected.transport.is_ended


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"garbage\r\n\r\n"])
async def test_what_is_no_request_is_told_so(connected: Connected, app: AppFake, sent: bytes) -> None:
    await connected.sends(sent, LIVEZ)
    assert connected.statuses == [b"400"]
    assert app.asked == []


async def test_the_end_of_a_body_is_asked_for_before_the_next_request_is(connected: Connected, app: AppFake) -> None:
    await connected.sends(LIVEZ + POST % 4)
    await app.answer()
    await connected.sends(b"bo", b"dy" + LIVEZ)
    await app.answer(2)
    assert app.asked == [("GET", b""), ("POST", b"body"), ("GET", b"")]
    assert connected.statuses == [b"200"] * 3


async def test_a_body_waits_for_an_app_that_does_not_take_it(connected: Connected, app: AppFake) -> None:
    slow = Connected(AppFake(reads=False))
    await slow.sends(POST % 1_000_000 + b"x" * 70_000)
    assert not slow.transport.is_reading
    slow.protocol.connection_lost(None)
    await connected.sends(POST % 1_000_000, *[b"x" * 100_000] * 10)
    assert app.asked == [("POST", b"x" * 1_000_000)]


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"0\r\nno colon\r\n\r\n", b"0\r\n" + b"t: x\r\n" * 2000])
async def test_a_body_that_is_none_is_the_apps_to_refuse_and_ends_the_connection(
    connected: Connected, app: AppFake, chunks: bytes
) -> None:
    await connected.sends(CHUNKED, b"1\r\nx\r\n", chunks if chunks.startswith(b"0") else b"\r\n", LIVEZ * 10)
    assert app.faults
    await app.answer()
    assert connected.statuses == [b"200"]
    assert b"connection: close\r\n" in connected.transport.sent
    assert connected.transport.is_ended
    assert connected.transport.is_reading


async def test_a_client_that_waits_to_be_told_is_told_when_its_body_is_asked_for(
    connected: Connected, app: AppFake
) -> None:
    await connected.sends((POST % 2).replace(b"host", b"expect: 100-continue\r\nhost"))
    assert connected.statuses == [b"100"]
    await connected.sends(b"{}")
    await app.answer()
    assert app.asked == [("POST", b"{}")]
    assert connected.statuses == [b"100", b"200"]
