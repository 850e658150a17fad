"""A relayed stream of a completion, however its bytes are cut: the same bytes to the client, the same in the ledger."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.relay.passthrough.completion_stream import CompletionStream
from app.state.usage import UsageEntry

USED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def frame(delta: dict[str, Any], ended: str | None = None, end: bytes = b"\n\n", **members: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": ended}
    chunk = {"id": "chatcmpl-1", "model": "m-7", "choices": [choice], **members}
    return b"data: %b%b" % (orjson.dumps(chunk), end)


USAGE_ALONE = b"data: %b\n\n" % orjson.dumps({"choices": [], "usage": USED})
DONE = b"data: [DONE]\n\n"
WHOLE = (
    frame({"role": "assistant", "content": ""}, usage=None),
    b": a comment\n\n",
    frame({"content": 'He said "usage": {"a"} and [DONE] and "error": x\n\n'}, usage=None),
    frame({"content": "é \U0001f984"}, end=b"\r\n\r\n"),
    frame({"tool_calls": [{"index": 0, "function": {"arguments": '{"error": 1}'}}]}),
    frame({}, "stop"),
    USAGE_ALONE,
    DONE,
)


class Pieces:
    """An answer in these pieces, of which some are there at once."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.account = self

    def redacted(self, text: bytes) -> bytes:
        return text

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        while self._pieces and take(self._pieces[0]):
            self._pieces.pop(0)


class Reader:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.has_ended = False

    def write_now(self, frames: bytes) -> bool:
        self.got.append(frames)
        return True

    async def write(self, frames: bytes) -> None:
        self.got.append(frames)

    async def end_stream(self) -> None:
        self.has_ended = True


async def relayed(pieces: list[bytes], *, removes_usage: bool) -> tuple[Reader, UsageEntry, int]:
    """What the client gets of these pieces, and what the ledger."""
    reader, entry = Reader(), UsageEntry.unrecorded()
    answer: Any = Pieces([*pieces])
    client: Any = reader
    held: Any = None
    stream = CompletionStream(
        answer, client, entry, answers=1, removes_usage=removes_usage, max_event_bytes=10_000, held=held
    )
    await stream.run()
    return reader, entry, stream.tokens()


@pytest.mark.parametrize("removes_usage", [False, True])
@given(cuts=st.sets(st.integers(1, sum(map(len, WHOLE)) - 1), max_size=40))
async def test_a_cut_anywhere_changes_nothing(removes_usage: bool, cuts: set[int]) -> None:
    raw = b"".join(WHOLE)
    places = [0, *sorted(cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(places)]
    reader, entry, tokens = await relayed(pieces, removes_usage=removes_usage)
    assert b"".join(reader.got) == (raw.replace(USAGE_ALONE, b"") if removes_usage else raw)
    assert reader.has_ended
    assert entry.usage is not None
    assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.is_metered) == (9, 4, True)
    assert (entry.response_status, entry.error_code, entry.model_served) == ("completed", None, "m-7")
    _, _, framed = await relayed([*WHOLE], removes_usage=removes_usage)
    assert tokens == framed > 10


@given(length=st.integers(0, sum(map(len, WHOLE[:5]))))
async def test_a_stream_that_breaks_off_anywhere_before_its_reason_fails_once(length: int) -> None:
    raw = b"".join(WHOLE)[:length]
    reader, entry, _ = await relayed([raw] if raw else [], removes_usage=True)
    got = b"".join(reader.got)
    assert (
        orjson.loads(got.rpartition(b"\ndata: ")[2] if b"\ndata: " in got else got.removeprefix(b"data: "))["error"][
            "code"
        ]
        == "upstream_disconnected"
    )
    assert got.count(b"upstream_disconnected") == 1
    assert (entry.response_status, entry.error_code) == ("failed", "upstream_disconnected")


@pytest.mark.parametrize(
    ("frames", "output"),
    [
        ([frame({"content": "A"}, "stop", usage=USED)], 4),
        ([frame({"content": "A"}, "stop", x_groq={"usage": USED})], 4),
        # One that adds up as it goes: the last counts.
        ([frame({"content": "A"}, usage={**USED, "completion_tokens": 1}), frame({}, "stop", usage=USED)], 4),
        ([frame({"content": "A"}, usage=None), frame({}, "stop"), USAGE_ALONE], 4),
        ([frame({"content": "A"}, "stop", usage={"prompt_tokens": 0, "completion_tokens": 0})], None),
        ([frame({"content": "A"}, "stop")], None),
    ],
    ids=["with the end", "groq", "cumulative", "chunk", "zeros", "none"],
)
async def test_a_usage_counts_in_each_shape_of_it(frames: list[bytes], output: int | None) -> None:
    _, entry, _ = await relayed([*frames, DONE], removes_usage=True)
    assert (None if entry.usage is None else entry.usage.output_tokens) == output
    assert entry.is_metered is (output is not None)
