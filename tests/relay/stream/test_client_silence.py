"""What a stream's client is sent while upstream is silent."""

import asyncio

from app.relay.process.admission_and_drain import CallRegistry
from app.wire.sse import KEEP_ALIVE
from tests.builders import Connection

_PACE = 0.02


async def test_silence_is_filled_with_comments_at_the_pace_that_was_set(
    registry: CallRegistry, connection: Connection
) -> None:
    now = asyncio.get_running_loop().time
    with connection.client(registry, keep_alive=_PACE) as client:
        await client.begin_stream(200, [])
        started = now()
        assert await connection.body_of(3 * len(KEEP_ALIVE)) == KEEP_ALIVE * 3
        assert now() - started >= 3 * _PACE
        await client.write(b"data: 1\n\n")
        body = await connection.body_of(len(connection.body) + len(KEEP_ALIVE))
        assert body.endswith(b"data: 1\n\n" + KEEP_ALIVE)
        await client.end_stream()
    assert connection.body.replace(KEEP_ALIVE, b"") == b"data: 1\n\n"


async def test_a_stream_that_speaks_gets_no_comments(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry, keep_alive=30) as client:
        await client.begin_stream(200, [])
        client._last_write -= 60
        await client.write(b"data: 1\n\n")
        client._on_silence()
        assert not registry._tasks
        client._last_write -= 60
        client._on_silence()
        assert await connection.body_of(len(KEEP_ALIVE) + 1) == b"data: 1\n\n" + KEEP_ALIVE
        await client.end_stream()


async def test_zero_turns_comments_off(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry, keep_alive=0) as client:
        await client.begin_stream(200, [])
        await asyncio.sleep(10 * _PACE)
        await client.end_stream()
    assert connection.body == b""


async def test_no_comment_comes_before_the_stream_has_begun_nor_after_its_end(
    registry: CallRegistry, connection: Connection
) -> None:
    with connection.client(registry, keep_alive=_PACE) as client:
        await asyncio.sleep(3 * _PACE)
        assert connection.sent == []
        await client.begin_stream(200, [])
        await client.end_stream()
        await asyncio.sleep(5 * _PACE)
    await asyncio.sleep(3 * _PACE)
    assert connection.body == b""


async def test_a_comment_that_the_end_overtakes_is_not_sent(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry, keep_alive=_PACE) as client:
        await client.begin_stream(200, [])
        client._last_write -= 1
        # The timer starts a task for the comment; the stream ends before that task runs.
        client._on_silence()
        await client.end_stream()
        (comment,) = registry._tasks
        await comment
    assert connection.body == b""


async def test_no_comment_is_queued_behind_a_write_that_waits(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry, keep_alive=_PACE) as client:
        await client.begin_stream(200, [])
        connection.reading.clear()
        asyncio.get_running_loop().call_later(10 * _PACE, connection.reading.set)
        await client.write(b"data: 1\n\n")
        await client.end_stream()
    assert connection.body == b"data: 1\n\n"
