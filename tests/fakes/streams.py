"""Event streams to play: one plain story, generated ones of every framing, and a reader of its own to check them by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

# Stands in generated streams for an id of the same length.
ANY_ID = "resp_" + "0" * 48

_LINE_ENDS = (b"\n", b"\r\n", b"\r")
_BOM = b"\xef\xbb\xbf"
_TERMINALS = ("response.completed", "response.incomplete", "response.failed")
_KINDS = ("response.output_text.delta", "response.brand_new.event", "keepalive", "response.in_progress")
_ATOMS = (
    *(b"a", b" ", b":", b"data: ", b"event: ", b'{"delta":"x"}'),
    *("\u2028".encode(), "\u0085".encode(), "\U0001f600".encode()),
    *(b"\xff\xfe", b"\xe2\x80", b"\x00", b"\x0b\x0c"),
)


def frame(kind: str, number: int, **members: Any) -> bytes:
    """One event as OpenAI frames it."""
    data = orjson.dumps({"type": kind, "sequence_number": number, **members})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def response(response_id: str, status: str, output: Sequence[object] = ()) -> dict[str, Any]:
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "model": "demo",
        "output": list(output),
    }


def item(text: str) -> dict[str, Any]:
    """A finished message."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def story(response_id: str, text: str = "Once upon a time") -> list[bytes]:
    """A response in six events, numbered from 0; the item is finished by the last but one."""
    done = item(text)
    return [
        frame("response.created", 0, response=response(response_id, "in_progress")),
        frame("response.output_item.added", 1, output_index=0, item={**done, "status": "in_progress", "content": []}),
        frame("response.output_text.delta", 2, output_index=0, delta="Once upon "),
        frame("response.output_text.delta", 3, output_index=0, delta="a time"),
        frame("response.output_item.done", 4, output_index=0, item=done),
        frame("response.completed", 5, response=response(response_id, "completed", [done])),
    ]


@dataclass(frozen=True)
class Stream:
    """A generated stream: its bytes, and where it is cut into chunks."""

    body: bytes
    cuts: tuple[int, ...]

    @property
    def chunks(self) -> list[bytes]:
        ends = [*self.cuts, len(self.body)]
        return [self.body[start:end] for start, end in zip([0, *self.cuts], ends, strict=True) if start < end]

    def named(self, response_id: str) -> "Stream":
        """The same stream of the response with this id."""
        assert len(response_id) == len(ANY_ID)
        return Stream(self.body.replace(ANY_ID.encode(), response_id.encode()), self.cuts)


_texts = st.lists(st.sampled_from(_ATOMS), max_size=4).map(b"".join)


@st.composite
def _other_frames(draw: st.DrawFn) -> bytes:
    """An event of any kind but a terminal one, or what else may stand between blank lines."""
    end = draw(st.sampled_from(_LINE_ENDS))
    lines = [b"data: " + line for line in draw(st.lists(_texts, max_size=3))]
    if kind := draw(st.sampled_from((*_KINDS, ""))):
        lines.insert(draw(st.integers(0, len(lines))), b"event: " + kind.encode())
    if draw(st.booleans()):
        lines.insert(0, draw(st.sampled_from((b": ping", b":", b"id: 7", b"retry: 10", b"unknown field", b"data"))))
    return end.join([*lines, b"", b""])


@st.composite
def _terminal_frames(draw: st.DrawFn) -> bytes:
    """A terminal event: named or not, its data on one line or on several."""
    end = draw(st.sampled_from(_LINE_ENDS))
    kind = draw(st.sampled_from(_TERMINALS))
    members = {"type": kind, "response": response(ANY_ID, kind.removeprefix("response."), [item("\u2028\u0085 é")])}
    data = orjson.dumps(members, option=draw(st.sampled_from((0, orjson.OPT_INDENT_2))))
    lines = [b"data: " + line for line in data.split(b"\n")]
    if draw(st.booleans()):
        lines.insert(0, b"event: " + kind.encode())
    return end.join([*lines, b"", b""])


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A whole stream, with or without a BOM before it and more after its terminal event, cut anywhere."""
    tails = st.sampled_from((b"", b"data: [DONE]\n\n", b": bye\r\n\r\n", b"data: [DO", b"\n"))
    body = b"".join(
        [
            draw(st.sampled_from((b"", _BOM))),
            *draw(st.lists(_other_frames(), max_size=6)),
            draw(_terminal_frames()),
            draw(tails),
        ]
    )
    if draw(st.integers(0, 9)) == 0:
        # The last blank line may be missing; and every byte may come alone.
        body = body.rstrip(b"\r\n")
    if draw(st.integers(0, 4)) == 0:
        return Stream(body, tuple(range(1, len(body))))
    return Stream(body, tuple(sorted(draw(st.sets(st.integers(1, len(body) - 1), max_size=12)))))


def sample(count: int) -> list[Stream]:
    """The same `count` generated streams in every run."""
    taken: list[Stream] = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(streams())
    def take(stream: Stream) -> None:
        taken.append(stream)

    take()
    return taken


def boundaries(body: bytes) -> set[int]:
    """Where a reader that goes by the WHATWG standard, byte by byte, has nothing begun: after each blank line."""
    found = {0}
    line_is_empty = True
    before = 0
    for place, byte in enumerate(body):
        if byte == 0x0A and before == 0x0D:
            # The second half of a CRLF ends nothing new.
            if place in found:
                found.add(place + 1)
        elif byte in b"\r\n":
            if line_is_empty:
                found.add(place + 1)
            line_is_empty = True
        else:
            line_is_empty = False
        before = byte
    return found


def events(body: bytes) -> list[dict[str, Any]]:
    """The data of each event of a stream that is framed as OpenAI does."""
    found = []
    for block in body.split(b"\n\n"):
        data = [line.removeprefix(b"data: ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if data:
            found.append(orjson.loads(b"\n".join(data)))
    return found
