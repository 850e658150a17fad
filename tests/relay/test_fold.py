from typing import Any

import orjson
import pytest

from app.relay.fold import Fold, PartialFold
from app.wire import events
from app.wire.sse import KEEP_ALIVE
from tests.fakes.streams import frame, item, response

_CREATED = frame("response.created", 0, response=response("resp_1", "in_progress"))


def done(text: str, number: int = 1) -> bytes:
    return frame("response.output_item.done", number, output_index=0, item=item(text))


def fold_of(*frames: bytes, max_bytes: int = 100_000, **fields: Any) -> Fold:
    fold = Fold({"model": "demo", **fields}, max_bytes)
    for seen in frames:
        fold.see(seen, events.kind(seen))
    return fold


def ended(fold: Fold, status: str = "failed", **error: str) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(fold.ended(status, error or None))
    return read


def test_a_response_is_announced_by_its_created_event() -> None:
    assert not fold_of().announced
    assert not fold_of(frame("response.in_progress", 0, response=response("resp_1", "in_progress"))).announced
    assert fold_of(_CREATED).announced


def test_what_ends_is_the_announced_response_with_the_items_finished_so_far() -> None:
    fold = fold_of(_CREATED, done("one"), frame("response.output_text.delta", 2, delta="tw"), done("two", 3))
    error = {"code": "server_error", "message": "Gone."}
    expected = {**response("resp_1", "failed", [item("one"), item("two")]), "error": error}
    assert ended(fold, **error).items() >= expected.items()
    assert ended(fold, "cancelled")["status"] == "cancelled"


def test_the_bytes_of_an_item_are_kept() -> None:
    raw = b'{ "type":"message", "n": 1.50e1 }'
    fold = fold_of(_CREATED, b'event: response.output_item.done\ndata: {"item":%b}\n\n' % raw)
    assert raw in fold.ended("failed")


def test_the_first_announcement_counts() -> None:
    fold = fold_of(_CREATED, frame("response.created", 1, response=response("resp_2", "in_progress")))
    assert ended(fold)["id"] == "resp_1"


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
    fold = fold_of(_CREATED, done("a"), done("b" * 1000), done("c"), done("d"), max_bytes=room)
    assert ended(fold)["output"] == [item("a"), item("c")]


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


@pytest.mark.parametrize("raw", [b'{"type":"message","n":NaN}', b'{"type":"\xff"}', b'{"type":"\\ud800"}'])
def test_an_item_that_is_no_strict_json_is_not_kept(raw: bytes) -> None:
    fold = fold_of(_CREATED, b'event: response.output_item.done\ndata: {"item":%b}\n\n' % raw, done("two", 3))
    assert ended(fold)["output"] == [item("two")]


def test_a_partial_fold_keeps_the_text_of_a_message_that_was_not_finished() -> None:
    fold = PartialFold({"model": "demo"}, 100_000)
    begun = {**item(""), "id": "msg_2", "status": "in_progress", "content": []}
    deltas = [
        frame("response.output_text.delta", 4 + number, output_index=1, item_id="msg_2", content_index=0, delta=text)
        for number, text in enumerate(("tw", "o"))
    ]
    strange = frame("response.output_text.delta", 6, output_index=[1], delta=None)
    added = frame("response.output_item.added", 3, output_index=1, item=begun)
    for seen in (_CREATED, done("one"), added, *deltas, strange, b"data: response.output_text.delta\n\n"):
        fold.see(seen, events.kind(seen))
    first, second = ended(fold, "cancelled")["output"]
    assert first == item("one")
    assert (second["id"], second["status"], second["content"][0]["text"]) == ("msg_2", "incomplete", "two")
    finished = frame("response.output_item.done", 7, output_index=1, item=item("two"))
    fold.see(finished, events.kind(finished))
    assert ended(fold, "cancelled")["output"] == [item("one"), item("two")]
