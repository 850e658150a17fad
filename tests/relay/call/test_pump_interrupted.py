"""A stream whose client leaves, or whose gateway has to stop, before upstream is done."""

import asyncio

import orjson
import pytest

from app.errors import StorageError, UpstreamError
from app.relay.stream.client import ShutdownError
from tests.builders import StreamRun
from tests.fakes.streams import events, item, story

_STORY = story("resp_1")
_BODY = b"".join(_STORY)
_CUT = b"".join(_STORY[:-1])


async def stopped(run: StreamRun, when: asyncio.Event) -> None:
    """Serve until the event, and then stop as the relay does."""
    serving = asyncio.create_task(run.serve())
    async with asyncio.timeout(20):
        await when.wait()
    run.client.stop()
    with pytest.raises(ShutdownError):
        await serving


async def arrived(run: StreamRun, length: int) -> asyncio.Event:
    seen = asyncio.Event()

    async def wait() -> None:
        await run.connection.body_of(length)
        seen.set()

    run.registry.spawn(wait())
    return seen


async def test_a_stream_that_is_stopped_ends_in_one_failure() -> None:
    run = StreamRun([_CUT, None])
    await stopped(run, await arrived(run, len(_CUT)))
    for _ in range(2):
        await run.pump.fail("gateway_shutdown", "Stopped.")
    (failed,) = events(run.connection.body[len(_CUT) :])
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert "gateway_shutdown" in failed["response"]["error"]["message"]
    assert run.settling.statuses == ["failed"]


async def test_a_stream_that_is_stopped_amid_its_commit_is_not_settled_again_but_ended() -> None:
    run = StreamRun([_BODY])
    run.settling.go.clear()
    await stopped(run, run.settling.began)
    for _ in range(2):
        await run.pump.fail("gateway_shutdown", "Stopped.")
    (failed,) = events(run.connection.body[len(_CUT) :])
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert run.settling.statuses == ["completed"]
    await run.pump.abandon()
    assert run.settling.statuses == ["completed"]


async def test_nothing_is_added_to_a_stream_that_has_ended() -> None:
    run = StreamRun([_BODY])
    assert await run.body() == _BODY
    await run.pump.fail("gateway_shutdown", "Stopped.")
    await run.pump.abandon()
    assert run.connection.body == _BODY
    assert run.settling.statuses == ["completed"]


@pytest.mark.parametrize("error", [None, StorageError("Gone."), UpstreamError("Odd.")])
async def test_a_response_whose_client_left_is_kept_as_far_as_it_came(error: Exception | None) -> None:
    run = StreamRun([_CUT, None])
    run.settling.errors = [error] if error else []
    await stopped(run, await arrived(run, len(_CUT)))
    for _ in range(2):
        await run.pump.abandon()
    assert run.settling.statuses == ["cancelled"]
    assert orjson.loads(run.settling.given[0] or b"")["output"] == [item("Once upon a time")]
    assert run.connection.body == _CUT


async def test_a_response_that_was_never_announced_leaves_nothing() -> None:
    run = StreamRun([b": hello\n\n", None])
    await stopped(run, await arrived(run, 1))
    await run.pump.abandon()
    assert run.settling.given == []
