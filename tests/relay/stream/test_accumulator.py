from typing import Any

import orjson
import pytest

from app.relay.stream.accumulator import StreamAccumulator, final_object
from app.wire.responses import stream_events
from app.wire.sse import KEEP_ALIVE
from tests.fakes.streams import frame, item, response, story

_CREATED = frame("response.created", 0, response=response("resp_1", "in_progress"))


def done(text: str, number: int = 1) -> bytes:
    return frame("response.output_item.done", number, output_index=0, item=item(text))


def fold_of(*frames: bytes, max_bytes: int = 100_000, **fields: Any) -> StreamAccumulator:
    accumulator = StreamAccumulator({"model": "demo", **fields}, max_bytes)
    for seen in frames:
        accumulator.feed(seen, stream_events.kind(seen))
    return accumulator


def ended(accumulator: StreamAccumulator, status: str = "failed", **error: str) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(accumulator.ended(status, error or None))
    return read


def test_a_response_is_announced_by_its_created_event() -> None:
    assert not fold_of().announced
    assert not fold_of(frame("response.in_progress", 0, response=response("resp_1", "in_progress"))).announced
    assert fold_of(_CREATED).announced


def test_what_ends_is_the_announced_response_with_the_items_finished_so_far() -> None:
    accumulator = fold_of(_CREATED, done("one"), frame("response.output_text.delta", 2, delta="tw"), done("two", 3))
    error = {"code": "server_error", "message": "Gone."}
    expected = {**response("resp_1", "failed", [item("one"), item("two")]), "error": error}
    assert ended(accumulator, **error).items() >= expected.items()
    assert ended(accumulator, "cancelled")["status"] == "cancelled"


def test_the_bytes_of_an_item_are_kept() -> None:
    raw = b'{ "type":"message", "n": 1.50e1 }'
    accumulator = fold_of(_CREATED, b'event: response.output_item.done\ndata: {"item":%b}\n\n' % raw)
    assert raw in accumulator.ended("failed")


def test_the_first_announcement_counts() -> None:
    accumulator = fold_of(_CREATED, frame("response.created", 1, response=response("resp_2", "in_progress")))
    assert ended(accumulator)["id"] == "resp_1"


@pytest.mark.parametrize(
    "created",
    [
        b"event: response.created\ndata: {}\n\n",
        b"event: response.created\ndata: not json\n\n",
        b'event: response.created\ndata: {"response":null}\n\n',
        b'event: response.created\ndata: {"response":{"id":""}}\n\n',
    ],
)
def test_without_a_readable_announcement_the_request_is_echoed(created: bytes) -> None:
    read = ended(fold_of(created, done("one"), instructions="Be brief."))
    assert read["id"].startswith("resp_")
    assert (read["model"], read["instructions"], read["status"]) == ("demo", "Be brief.", "failed")
    assert read["output"] == [item("one")]


def test_items_beyond_the_room_are_forgotten() -> None:
    room = len(orjson.dumps(item("a"))) * 2
    accumulator = fold_of(_CREATED, done("a"), done("b" * 1000), done("c"), done("d"), max_bytes=room)
    assert ended(accumulator)["output"] == [item("a"), item("c")]


def test_an_event_without_its_item_adds_none() -> None:
    assert ended(fold_of(_CREATED, b"event: response.output_item.done\ndata: {}\n\n"))["output"] == []


def test_an_error_event_is_remembered() -> None:
    assert not fold_of(_CREATED).saw_error
    assert fold_of(_CREATED, frame("error", 1, message="No.")).saw_error


@pytest.mark.parametrize(
    ("frames", "number"),
    [
        ([], 0),
        ([b"data: {}\n\n"], 0),
        ([_CREATED], 1),
        ([_CREATED, frame("response.output_text.delta", 41, delta="")], 42),
        ([_CREATED, frame("keepalive", 7)], 8),
        ([_CREATED, KEEP_ALIVE], 1),
        ([_CREATED, b"\n\n"], 1),
        ([_CREATED, b"retry: 10\n\n"], 1),
        ([_CREATED, b"data: [DONE]\n\n"], 1),
        ([_CREATED, b": ping\n" + done("a", 5)], 6),
        ([_CREATED, frame("response.output_text.delta", 3, delta='"sequence_number"')], 4),
        ([_CREATED, b'data: {"delta":"\\"sequence_number\\":9"}\n\n'], 1),
        ([b'data: {"sequence_number":"odd"}\n\n'], 0),
    ],
)
def test_the_next_number_follows_the_last_that_was_given(frames: list[bytes], number: int) -> None:
    assert fold_of(*frames).next_number() == number


def test_an_item_that_is_no_json_is_not_kept() -> None:
    raw = b'{"type":"message","n":NaN}'
    accumulator = fold_of(_CREATED, b'event: response.output_item.done\ndata: {"item":%b}\n\n' % raw, done("two", 3))
    assert ended(accumulator)["output"] == [item("two")]


@pytest.mark.parametrize("raw", [b'{"type":"\xff"}', b'{"type":"\\ud800"}'])
def test_an_item_with_half_a_character_is_kept_without_it(raw: bytes) -> None:
    accumulator = fold_of(_CREATED, b'event: response.output_item.done\ndata: {"item":%b}\n\n' % raw, done("two", 3))
    assert ended(accumulator)["output"] == [{"type": "\ufffd"}, item("two")]


def begun(place: int, item_id: str) -> bytes:
    message = {**item(""), "id": item_id, "status": "in_progress", "content": []}
    return frame("response.output_item.added", 3, output_index=place, item=message)


def delta(text: str, place: int = 1, number: int = 4) -> bytes:
    return frame("response.output_text.delta", number, item_id="m", output_index=place, content_index=0, delta=text)


def texts(accumulator: StreamAccumulator, status: str = "cancelled") -> list[tuple[str, str]]:
    return [(each["status"], each["content"][0]["text"]) for each in map(orjson.loads, accumulator.items(status))]


def test_the_text_of_a_message_that_was_not_finished_is_kept() -> None:
    strange = frame("response.output_text.delta", 6, output_index=[1], delta=None)
    nonsense = b"data: response.output_text.delta\n\n"
    accumulator = fold_of(_CREATED, done("one"), begun(1, "msg_2"), delta("tw"), delta("o"), strange, nonsense)
    first, second = ended(accumulator, "cancelled")["output"]
    assert first == item("one")
    assert (second["id"], second["status"], second["content"][0]["text"]) == ("msg_2", "incomplete", "two")
    finished = frame("response.output_item.done", 7, output_index=1, item=item("two"))
    accumulator.feed(finished, stream_events.kind(finished))
    assert ended(accumulator, "cancelled")["output"] == [item("one"), item("two")]


def test_items_stand_in_the_order_of_their_places_whichever_was_finished_first() -> None:
    late, early = (
        frame("response.output_item.done", 5, output_index=place, item=item(text))
        for place, text in ((2, "three"), (0, "one"))
    )
    accumulator = fold_of(_CREATED, begun(1, "msg_2"), late, delta("two"), early)
    assert [text for _, text in texts(accumulator)] == ["one", "two", "three"]


SPACED = b'event: response.output_text.delta\ndata: {"type": "x", "delta": "12345678", "sequence_number": 3}\n\n'


@pytest.mark.parametrize(
    ("passed", "tokens"),
    [
        (frame("response.output_text.delta", 2, delta="x" * 4000, logprobs=[], obfuscation="padding"), 1000),
        (frame("response.output_text.delta", 2, delta="x" * 4000), 1000),
        (frame("response.function_call_arguments.delta", 2, delta="x" * 40, item_id="fc_1"), 10),
        (frame("response.refusal.delta", 2, delta="x" * 40, item_id="msg_1"), 10),
        (SPACED, 2),
        (frame("response.output_text.delta", 2, delta='","' * 40, item_id="a"), 50),
        (frame("response.output_text.delta", 2, delta="", item_id="a"), 0),
        (frame("response.output_text.done", 2, text="x" * 4000), 0),
        (KEEP_ALIVE, 0),
        (b'data: {"delta":null,"x":1}\n\n', 0),
    ],
)
def test_the_text_that_has_passed_is_counted_where_it_stands(passed: bytes, tokens: int) -> None:
    accumulator = fold_of(_CREATED, passed)
    assert accumulator.tokens() == pytest.approx(tokens, abs=2)
    assert accumulator.next_number() > 0


def test_text_is_counted_once_and_an_item_that_came_without_deltas_too() -> None:
    delta = frame("response.output_text.delta", 1, delta="x" * 400, item_id="a")
    assert fold_of(_CREATED, delta).tokens() == 100
    assert fold_of(_CREATED, delta, done("x" * 400, 2)).tokens() == pytest.approx(100, abs=10)
    assert fold_of(_CREATED, done("x" * 400, 1)).tokens() == pytest.approx(100, abs=10)
    assert fold_of(_CREATED, done("x" * 400, 1), delta).tokens() == pytest.approx(200, abs=10)
    many = [frame("response.output_text.delta", number, delta="word ", item_id="a") for number in range(1000)]
    assert fold_of(_CREATED, *many).tokens() == pytest.approx(1250, abs=2)


def test_an_item_that_nobody_can_read_is_counted_by_its_size() -> None:
    strange = b'{"type":[1],"n":"' + b"x" * 400 + b'"}'
    accumulator = fold_of(_CREATED, b'event: response.output_item.done\ndata: {"item":%b}\n\n' % strange)
    assert 90 < accumulator.tokens() < 120


@pytest.mark.parametrize("said", ['a "quote"', "a \\ at the end \\", "line\nbreak", "\u2028 é \U0001f600", '","x":"'])
@pytest.mark.parametrize("is_spaced", [True, False])
def test_text_is_kept_whatever_it_holds_and_however_it_is_written(said: str, is_spaced: bool) -> None:
    accumulator = fold_of(_CREATED, begun(1, "msg_2"))
    for piece in (said[:3], said[3:]):
        sent = delta(piece)
        sent = sent.replace(b'"delta":"', b'"delta": "') if is_spaced else sent
        accumulator.feed(sent, stream_events.kind(sent))
    assert texts(accumulator) == [("incomplete", said)]


def test_a_character_that_came_in_two_deltas_is_whole_and_half_of_one_is_marked() -> None:
    halves = [delta("x").replace(b'"x"', b'"%b"' % half) for half in (b"\\ud83d", b"\\ude00", b"\\ud83d")]
    assert texts(fold_of(_CREATED, begun(1, "msg_2"), *halves)) == [("incomplete", "\U0001f600\ufffd")]


def test_messages_that_are_said_at_once_are_kept_apart() -> None:
    accumulator = fold_of(
        _CREATED, begun(0, "a"), begun(1, "b"), delta("A", 0), delta("B", 1), delta("A", 0), delta("C", 9)
    )
    assert texts(accumulator) == [("incomplete", "AA"), ("incomplete", "B")]


def test_a_message_of_a_completed_response_is_complete() -> None:
    assert texts(fold_of(_CREATED, begun(1, "msg_2"), delta("two")), "completed") == [("completed", "two")]


def test_text_is_kept_as_far_as_there_is_room_which_a_finished_item_gives_back() -> None:
    accumulator = fold_of(_CREATED, begun(1, "msg_2"), delta("x" * 300), delta("y" * 300), max_bytes=400)
    assert texts(accumulator) == [("incomplete", "x" * 300)]
    finished = frame("response.output_item.done", 7, output_index=1, item=item("x" * 200))
    accumulator.feed(finished, stream_events.kind(finished))
    assert [status for status, _ in texts(accumulator)] == ["completed"]


def test_what_an_error_event_said_is_remembered() -> None:
    for said in (
        frame("error", 1, code="rate_limit_exceeded", message="Slower.", param=None),
        frame("error", 1, error={"type": "requests", "code": "rate_limit_exceeded", "message": "Slower."}),
    ):
        error = fold_of(_CREATED, said).error
        assert error is not None
        assert (error.message, error.code, error.status) == ("Slower.", "rate_limit_exceeded", 429)


def test_a_last_word_without_an_id_is_completed_by_what_was_announced() -> None:
    accumulator = fold_of(_CREATED)
    said = accumulator.completed(b'{"status":"completed","usage":{"input_tokens":1}}')
    assert said is not None
    assert orjson.loads(said) == {
        **response("resp_1", "completed"),
        "usage": {"input_tokens": 1},
    }
    for other in (b'{"id":"resp_2"}', b"null", None):
        assert accumulator.completed(other) == other
    assert fold_of().completed(b"{}") == b"{}"


def test_a_whole_stream_is_the_response_in_which_it_ends() -> None:
    frames = story("resp_1", "Hm.")
    assert orjson.loads(final_object(b"".join(frames))) == response("resp_1", "completed", [item("Hm.")])
    empty = frame("response.completed", 5, response=response("resp_1", "completed")).rstrip(b"\n")
    assert orjson.loads(final_object(b"".join([*frames[:-1], empty])))["output"] == [item("Hm.")]
    for stream in (b"".join(frames[:-1]), b"", b"event: response.completed\ndata: {}\n\n"):
        assert final_object(stream) == stream


@pytest.mark.parametrize(
    ("broken", "kept"),
    [(b"no end", ""), (b'a\tb"}', "a\tb"), (b'\\q"}', "\\q"), (b'\\u12"}', "\\u12"), (b'\x01"}', "\x01")],
    ids=["no end", "a tab", "an escape of no kind", "half an escape", "a control character"],
)
@pytest.mark.parametrize("is_last", [True, False])
def test_a_delta_that_is_no_json_breaks_nothing(broken: bytes, kept: str, is_last: bool) -> None:
    added = frame("response.output_item.added", 1, output_index=0, item={**item(""), "content": []})
    good = frame("response.output_text.delta", 2, delta="good")
    kind = b"response.output_text.delta"
    bad = b'event: %b\ndata: {"type":"%b","output_index":0,"delta":"%b\n\n' % (kind, kind, broken)
    accumulator = fold_of(_CREATED, added, *((good, bad) if is_last else (bad, good)))
    (said,) = ended(accumulator)["output"]
    assert said["content"][0]["text"] == ("good" + kept if is_last else kept + "good")
