"""How a stream ends: its last word waits for the commit, and there is exactly one."""

import asyncio

import orjson
import pytest
from structlog.testing import capture_logs

from app.errors import StorageError, UpstreamError, UpstreamRefusedError
from app.relay.stream import pump as pump_module
from app.storage.responses.store import DUPLICATE_RESPONSE
from tests.builders import StreamRun
from tests.fakes.streams import events, frame, item, story

_STORY = story("resp_1")
_BODY = b"".join(_STORY)
_CUT = b"".join(_STORY[:-1])


@pytest.mark.parametrize("chunks", [[_BODY], _STORY, [_BODY[:50], _BODY[50:]]], ids=["one", "each", "cut"])
async def test_a_whole_stream_is_settled_once_with_its_terminal_response(chunks: list[bytes]) -> None:
    run = StreamRun(chunks)
    assert await run.body() == _BODY
    assert run.settling.statuses == ["completed"]


@pytest.mark.parametrize("kind", ["completed", "failed", "incomplete"])
@pytest.mark.parametrize("is_named", [True, False])
async def test_the_terminal_event_says_how_a_response_ended_whatever_its_object_says(kind: str, is_named: bool) -> None:
    last = frame(f"response.{kind}", 4, response={"id": "resp_1", "status": "in_progress"})
    if not is_named:
        last = last[last.index(b"\n") + 1 :]
    run = StreamRun([_CUT + last])
    # What the client receives is what upstream sent.
    assert await run.body() == _CUT + last
    assert run.settling.statuses == ["in_progress"]
    assert run.settling.ends == [kind]


async def test_the_last_word_waits_for_the_commit_and_what_came_before_does_not() -> None:
    run = StreamRun([_BODY])
    run.settling.go.clear()
    serving = asyncio.create_task(run.serve())
    await run.settling.began.wait()
    assert run.connection.body == _CUT
    run.settling.go.set()
    await serving
    assert run.connection.body == _BODY


async def test_what_cannot_be_committed_is_a_failure_in_the_terminals_place() -> None:
    run = StreamRun([_BODY + b"data: [DONE]\n\n"])
    run.settling.errors = [StorageError("The database could not commit in time.")]
    (failed,) = await run.ending(_CUT)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert (failed["response"]["id"], failed["response"]["status"]) == ("resp_1", "failed")
    assert failed["response"]["output"] == [item("Once upon a time")]
    assert "storage_unavailable" in failed["response"]["error"]["message"]
    # The outcome of a commit that failed is unknown: it is not tried again.
    assert run.settling.statuses == ["completed"]


async def test_a_terminal_event_that_cannot_be_kept_is_kept_as_a_failure() -> None:
    run = StreamRun([_CUT + b"event: response.completed\ndata: {}\n\n"])
    run.settling.errors = [UpstreamError("Upstream's answer is not a response object.")]
    (failed,) = await run.ending(_CUT)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert run.settling.given[0] is None
    assert run.settling.statuses[1:] == ["failed"]


@pytest.mark.parametrize("error", [StorageError("Gone."), UpstreamError("Odd.")])
async def test_the_client_is_told_of_a_failure_that_cannot_be_kept_either(error: Exception) -> None:
    run = StreamRun([_CUT])
    run.settling.errors = [error]
    (failed,) = await run.ending(_CUT)
    assert failed["type"] == "response.failed"
    assert run.settling.statuses == ["failed"]


async def test_a_terminal_event_brings_the_items_that_came_before_it() -> None:
    run = StreamRun([_BODY])
    await run.body()
    assert [orjson.loads(each) for each in run.settling.delivered[0]] == [item("Once upon a time")]


@pytest.mark.parametrize("last", [{"usage": {"input_tokens": 3}}, None])
async def test_what_a_last_word_does_not_say_was_announced(last: dict[str, object] | None) -> None:
    end = frame("response.done", 5, **({} if last is None else {"response": last}))
    run = StreamRun([_CUT + end])
    assert await run.body() == _CUT + end
    assert run.settling.ends == ["done"]
    said = orjson.loads(run.settling.given[0] or b"")
    assert (said["id"], said.get("usage")) == ("resp_1", last and last["usage"])


async def test_an_id_that_is_another_turns_is_told_as_the_one_under_which_it_is_kept() -> None:
    run = StreamRun([_BODY + b"data: [DONE]\n\n"])
    run.settling.errors = [StorageError("Taken.", code=DUPLICATE_RESPONSE)]
    body = (await run.body()).removesuffix(b"data: [DONE]\n\n")
    (completed,) = events(body.removeprefix(_CUT))
    kept = orjson.loads(run.settling.given[1] or b"")
    assert kept["id"] == completed["response"]["id"] != "resp_1"
    assert kept == {**orjson.loads(run.settling.given[0] or b""), "id": kept["id"]}
    assert (completed["type"], completed["sequence_number"]) == ("response.completed", 5)


@pytest.mark.parametrize("rest", [b"data: [DONE]\n\n", b"data: [DONE]", b"data: [DONE]\n\n: bye\n\n"])
@pytest.mark.parametrize("is_apart", [True, False])
async def test_a_failure_to_end_comes_before_the_mark_of_the_end(rest: bytes, is_apart: bool) -> None:
    run = StreamRun([_CUT, rest] if is_apart else [_CUT + rest])
    body = await run.body()
    assert body.endswith(rest)
    (failed,) = events(body.removeprefix(_CUT).removesuffix(rest))
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert run.settling.statuses == ["failed"]


_ERROR = frame("error", 5, code="context_length_exceeded", message="Too long.", param=None)


@pytest.mark.parametrize("rest", [b"", b"data: [DONE]\n\n"])
async def test_what_an_error_event_said_is_the_error_of_the_response_that_is_kept(rest: bytes) -> None:
    run = StreamRun([_CUT + _ERROR + rest])
    assert await run.body() == _CUT + _ERROR + rest
    assert orjson.loads(run.settling.given[0] or b"")["error"] == {
        "code": "invalid_prompt",
        "message": "Too long. (context_length_exceeded)",
    }
    with pytest.raises(UpstreamRefusedError) as caught:
        run.pump.whole()
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


async def test_who_asked_for_a_body_gets_the_response_of_the_stream() -> None:
    run = StreamRun([_BODY])
    await run.body()
    assert orjson.loads(run.pump.whole())["id"] == "resp_1"


async def test_who_asked_for_a_body_is_told_why_there_is_none() -> None:
    run = StreamRun([_CUT])
    await run.body()
    with pytest.raises(UpstreamError, match="before the response was finished"):
        run.pump.whole()
    run = StreamRun([_BODY])
    run.settling.errors = [StorageError("Gone.")]
    await run.body()
    with pytest.raises(StorageError, match="Gone"):
        run.pump.whole()


@pytest.mark.parametrize(
    "last",
    [
        frame("error", 5, code="insufficient_quota", message="Spent.", param=None),
        frame(
            "response.failed", 5, response={"id": "resp_1", "error": {"code": "rate_limit_exceeded", "message": "S"}}
        ),
    ],
)
async def test_an_account_that_says_in_the_stream_that_it_is_limited_rests_afterwards(last: bytes) -> None:
    run = StreamRun([_STORY[0], last])
    await run.body()
    assert run.answer._checkout.fault is not None
    assert run.answer._checkout.fault.blame in {"quota", "rate"}


_TAILS = (b"data: [DONE]\n\n", b": bye\n\n", frame("response.completed", 6), b"data: half")


@pytest.mark.parametrize("tail", _TAILS)
@pytest.mark.parametrize("apart", [True, False])
async def test_what_follows_the_terminal_event_is_passed_on_and_settles_nothing(tail: bytes, apart: bool) -> None:
    run = StreamRun([_BODY, tail] if apart else [_BODY + tail])
    assert await run.body() == _BODY + tail
    assert run.settling.statuses == ["completed"]


async def test_a_stream_that_does_not_close_is_left_a_while_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "TAIL_SECONDS", 0.05)
    run = StreamRun([_BODY, b"data: [DONE]\n\n", None])
    async with asyncio.timeout(20):
        assert await run.body() == _BODY + b"data: [DONE]\n\n"


@pytest.mark.parametrize("tail", [UpstreamError("Reset."), b"x" * 3000])
async def test_what_goes_wrong_after_the_terminal_event_changes_nothing(tail: Exception | bytes) -> None:
    run = StreamRun([_BODY, tail], max_event_bytes=2000)
    assert (await run.body()).startswith(_BODY)
    assert run.settling.statuses == ["completed"]


async def test_a_terminal_event_without_its_blank_line_counts_when_it_is_whole() -> None:
    run = StreamRun([_BODY.rstrip(b"\n")])
    assert await run.body() == _BODY.rstrip(b"\n")
    assert run.settling.statuses == ["completed"]


async def test_a_terminal_event_without_its_blank_line_waits_for_the_commit_too() -> None:
    run = StreamRun([_BODY.rstrip(b"\n")])
    run.settling.errors = [StorageError("Gone.")]
    assert [event["type"] for event in await run.ending(_CUT)] == ["response.failed"]


@pytest.mark.parametrize("kept", [25, 60, 200], ids=["its name", "a little", "most of it"])
async def test_a_terminal_event_that_was_cut_is_none(kept: int) -> None:
    run = StreamRun([_CUT + _STORY[-1][:kept]])
    (failed,) = await run.ending(_CUT)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert run.settling.statuses == ["failed"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (UpstreamError("Upstream stopped sending.", code="upstream_idle_timeout"), "upstream_idle_timeout"),
        (b"data: " + b"x" * 3000, "upstream_event_too_large"),
    ],
)
async def test_a_stream_that_breaks_ends_in_a_failure_that_says_why(fault: Exception | bytes, told: str) -> None:
    run = StreamRun([_CUT, fault, None], max_event_bytes=2000)
    (failed,) = await run.ending(_CUT)
    assert told in failed["response"]["error"]["message"]
    assert failed["response"]["error"]["code"] == "server_error"
    assert run.settling.statuses == ["failed"]


async def test_the_frames_before_one_that_is_too_large_arrive() -> None:
    run = StreamRun([_CUT + b"data: " + b"x" * 3000, b"x", None], max_event_bytes=2000)
    (failed,) = await run.ending(_CUT)
    assert failed["sequence_number"] == 5


async def test_an_error_event_of_upstreams_is_the_last_word() -> None:
    error = frame("error", 5, code="server_error", message="No.", param=None)
    run = StreamRun([_CUT + error])
    assert await run.body() == _CUT + error
    assert run.settling.statuses == ["failed"]
    await run.pump.fail("again", "Again.")
    assert run.settling.statuses == ["failed"]
    assert run.connection.body == _CUT + error


async def test_an_error_event_does_not_take_the_place_of_a_terminal_one() -> None:
    error = frame("error", 5, code="server_error", message="No.", param=None)
    run = StreamRun([_CUT + error + _STORY[-1]])
    assert await run.body() == _CUT + error + _STORY[-1]
    assert run.settling.statuses == ["completed"]


async def test_a_large_event_is_counted_while_it_comes() -> None:
    run = StreamRun([b"event: response.created\ndata: ", b"x" * 200_000, None])
    serving = asyncio.create_task(run.serve())
    async with asyncio.timeout(10):
        while run.registry.budget.held < 400_000:
            await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_stream_that_breaks_in_the_gateway_ends_in_one_failure_and_a_line_without_what_was_said() -> None:
    run = StreamRun([_CUT, TypeError("Once upon a time")])
    with capture_logs() as lines:
        (failed,) = await run.ending(_CUT)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert failed["response"]["error"] == {
        "code": "server_error",
        "message": "The server had an error while processing this response.",
    }
    assert failed["response"]["output"] == [item("Once upon a time")]
    assert run.settling.statuses == ["failed"]
    assert lines == [{"event": "a stream broke", "log_level": "error", "error": "TypeError"}]


async def test_a_settling_that_breaks_is_told_and_not_tried_again() -> None:
    run = StreamRun([_BODY])
    run.settling.errors = [KeyError("resp_1")]
    with capture_logs() as lines:
        (failed,) = await run.ending(_CUT)
    assert failed["type"] == "response.failed"
    assert run.settling.statuses == ["completed"]
    assert [line["error"] for line in lines] == ["KeyError"]
