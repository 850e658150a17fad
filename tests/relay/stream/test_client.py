import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.client import Client, ClientGoneError, ShutdownError
from tests.builders import Connection


async def wait_in(client: Client, *first: Callable[[], object]) -> None:
    """A call that does these things and then never ends by itself."""
    with client:
        for step in first:
            step()
        await asyncio.Event().wait()


def no_cancel_is_left() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


async def test_work_is_cancelled_when_the_client_leaves(registry: CallRegistry, connection: Connection) -> None:
    seen: list[str] = []

    async def call() -> None:
        with connection.client(registry):
            connection.leave()
            try:
                await asyncio.Event().wait()
            finally:
                # What is closed on the way out may take its time.
                await asyncio.sleep(0)
                seen.append("closed")

    with pytest.raises(ClientGoneError):
        await call()
    assert seen == ["closed"]
    assert no_cancel_is_left()
    await asyncio.sleep(0)


async def test_work_is_cancelled_when_the_process_stops_and_the_client_can_still_be_told(
    registry: CallRegistry, connection: Connection
) -> None:
    client = connection.client(registry)
    await client.begin_stream(200, [])
    with pytest.raises(ShutdownError):
        await wait_in(client, client.stop, client.stop)
    assert no_cancel_is_left()
    await client.write(b"data: last\n\n")
    await client.end_stream()
    assert connection.body == b"data: last\n\n"
    assert connection.is_finished


async def test_the_first_reason_counts(registry: CallRegistry, connection: Connection) -> None:
    client = connection.client(registry)
    with pytest.raises(ShutdownError):
        await wait_in(client, client.stop, lambda: client.interrupt(ClientGoneError))
    assert no_cancel_is_left()


async def test_a_call_that_was_stopped_before_it_began_does_not_begin(
    registry: CallRegistry, connection: Connection
) -> None:
    client = connection.client(registry)
    client.stop()
    with pytest.raises(ShutdownError):
        await wait_in(client, lambda: pytest.fail("the call began"))
    assert no_cancel_is_left()


async def test_a_call_whose_client_left_before_it_began_does_not_begin(
    registry: CallRegistry, connection: Connection
) -> None:
    client = connection.client(registry)
    connection.leave()
    with pytest.raises(ClientGoneError):
        await wait_in(client, lambda: pytest.fail("the call began"))
    await asyncio.sleep(0)
    assert no_cancel_is_left()


async def test_a_call_that_fails_as_its_client_leaves_fails_with_that_and_nothing_follows(
    registry: CallRegistry, connection: Connection
) -> None:
    def fail() -> None:
        with connection.client(registry):
            connection.leave()
            raise ValueError("unknown model")

    with pytest.raises(ValueError, match="unknown model"):
        fail()
    # A cancellation that had not been delivered would be here.
    await asyncio.sleep(0)
    assert no_cancel_is_left()


async def test_an_interruption_that_comes_too_late_takes_no_cancellation_of_others_away(
    registry: CallRegistry, connection: Connection
) -> None:
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        with connection.client(registry):
            task.cancel()
            connection.leave()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        end()
    assert task.uncancel() == 0
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def test_a_stop_after_the_call_changes_nothing(registry: CallRegistry, connection: Connection) -> None:
    client = connection.client(registry)
    with client:
        await client.answer(200, [], b"{}")
    client.stop()
    await asyncio.sleep(0)
    assert no_cancel_is_left()


async def test_a_cancellation_from_outside_stays_one(registry: CallRegistry, connection: Connection) -> None:
    entered = asyncio.Event()

    async def call() -> None:
        with connection.client(registry):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("outside_first", [True, False])
async def test_a_cancellation_from_outside_wins_over_an_interruption(
    registry: CallRegistry, connection: Connection, outside_first: bool
) -> None:
    client = connection.client(registry)
    entered = asyncio.Event()

    async def call() -> None:
        with client:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    if outside_first:
        task.cancel()
    client.stop()
    if not outside_first:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_another_error_on_the_way_out_is_not_hidden(registry: CallRegistry, connection: Connection) -> None:
    client = connection.client(registry)

    async def call() -> None:
        with client:
            client.stop()
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await call()
    assert no_cancel_is_left()


async def test_an_error_inside_is_the_callers(registry: CallRegistry, connection: Connection) -> None:
    with pytest.raises(ValueError, match="mine"), connection.client(registry):
        raise ValueError("mine")


def resolve_then_stop(future: asyncio.Future[None], client: Client) -> None:
    future.set_result(None)
    client.stop()


def stop_then_resolve(future: asyncio.Future[None], client: Client) -> None:
    client.stop()
    if not future.done():
        future.set_result(None)


def stop_one_turn_later(future: asyncio.Future[None], client: Client) -> None:
    future.set_result(None)
    asyncio.get_running_loop().call_soon(client.stop)


@pytest.mark.parametrize("race", [resolve_then_stop, stop_then_resolve, stop_one_turn_later])
@pytest.mark.parametrize("turns_after", [0, 1, 2])
async def test_a_stop_that_races_with_the_end_interrupts_or_does_nothing(
    registry: CallRegistry,
    connection: Connection,
    race: Callable[[asyncio.Future[None], Client], None],
    turns_after: int,
) -> None:
    client = connection.client(registry)
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(race, future, client)
    finished = interrupted = False
    try:
        with client:
            await future
            for _ in range(turns_after):
                await asyncio.sleep(0)
            finished = True
    except ShutdownError:
        interrupted = True
    assert finished is not interrupted
    # Either way the task goes on undisturbed.
    assert no_cancel_is_left()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_whole_answer_tells_its_length(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry) as client:
        await client.answer(201, [(b"x-a", b"\xe9")], b'{"a":1}')
    headers = [(b"x-a", b"\xe9"), (b"content-length", b"7")]
    assert connection.sent == [{"type": "http.response.start", "status": 201, "headers": headers, "body": b'{"a":1}'}]


async def whole(client: Client) -> None:
    await client.answer(200, [], b"{}")


async def streamed(client: Client) -> None:
    await client.begin_stream(200, [])
    await client.write(b"data: 1\n\n")
    await client.end_stream()


@pytest.mark.parametrize("answer", [whole, streamed])
async def test_a_finished_answer_is_not_taken_for_a_client_that_left(
    registry: CallRegistry, connection: Connection, answer: Callable[[Client], Awaitable[None]]
) -> None:
    with connection.client(registry) as client:
        await answer(client)
        for _ in range(5):
            await asyncio.sleep(0)
        assert connection.is_left
    assert no_cancel_is_left()


async def test_a_stream_is_ended_once(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry) as client:
        await client.begin_stream(200, [])
        await client.end_stream()
        await client.end_stream()
    assert len(connection.sent) == 2


async def test_whether_the_answer_has_begun_is_known(registry: CallRegistry, connection: Connection) -> None:
    with connection.client(registry) as client:
        assert not client.begun
        await client.begin_stream(200, [])
        assert client.begun


async def test_what_can_be_written_at_once_is_and_counts_as_a_sign_of_life(
    registry: CallRegistry, connection: Connection
) -> None:
    with connection.client(registry, keep_alive=30) as client:
        await client.begin_stream(200, [])
        client._last_write -= 60
        assert client.write_now(b"data: 1\n\n")
        client._on_silence()
        assert not registry._tasks
        connection.reading.clear()
        assert not client.write_now(b"data: 2\n\n")
        connection.reading.set()
        await client.end_stream()
    assert connection.body == b"data: 1\n\n"
