"""The upstream of the table: it answers each call as the row says that the call's model names."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from tests.exchanges.exchange import USAGE, Exchange, Form, Json, says
from tests.fakes.replies import Reply
from tests.fakes.upstream import Recorded

_SECOND = Exchange(name="second", says=(says("And on.", "msg_2@"),))


def letters_of(model: str) -> str:
    """What stands for `@` in the exchange of this model."""
    return hashlib.blake2s(model.encode(), digest_size=6).hexdigest()


def made_for(model: str, value: object) -> Any:
    """A part of a row as the call of this model has it."""
    return orjson.loads(orjson.dumps(value).replace(b"@", letters_of(model.rpartition("/")[0]).encode()))


class TableUpstream:
    """Answers by row; the second turn of each is answered with words."""

    def __init__(self, rows: Mapping[str, Exchange]) -> None:
        self._rows = rows
        self.asked: dict[str, list[dict[str, Any]]] = {}

    def respond(self, request: Recorded) -> Reply | None:
        """The answer to one request, which is kept by its model."""
        if request.method != "POST":
            return None
        body: Any = request.json
        model = body["model"]
        self.asked.setdefault(model, []).append(body)
        _, name, turn = model.split("/")
        row = self._rows[name] if turn == "1" else _SECOND
        if row.refusal is not None:
            return row.refusal.reply
        streams = bool(body.get("stream")) != row.form.swaps
        return _stream(row, model) if streams else _body(row, model)


def response_of(row: Exchange, model: str) -> dict[str, Any]:
    """The response object that this row's upstream makes."""
    made = {
        "id": "resp_" + letters_of(model),
        "object": "response",
        "created_at": 1_790_000_000,
        "completed_at": 1_790_000_001 if row.status == "completed" else None,
        "status": row.form.status or row.status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "upstream-model",
        "output": made_for(model, row.says),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": USAGE,
        **row.members,
    }
    return {name: value for name, value in made.items() if value is not ...}


def frames_of(row: Exchange, model: str) -> list[bytes]:
    """The events in which it streams it."""
    made, form = response_of(row, model), row.form
    last = dict(made)
    if form.snapshot == "empty":
        last["output"] = []
    elif form.snapshot == "absent":
        del last["output"]
    kind = f"response.{row.status}" if form.ends_with is None else form.ends_with
    events = [*_begun(made), *_told(made["output"]), *form.beside]
    if kind:
        events.append({"type": kind, "response": last})
    if not form.begins:
        events = events[2:]
    frames = [_frame(event, number, form) for number, event in enumerate(events)]
    return [*frames, b"data: [DONE]\n\n"] if form.done else frames


def _begun(made: Json) -> Iterator[Json]:
    begun = {**made, "status": "in_progress", "completed_at": None, "output": [], "usage": None, "error": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}


def _told(output: list[dict[str, Any]]) -> Iterator[Json]:
    for place, item in enumerate(output):
        begun = {**item, "status": "in_progress"} | ({"content": []} if item["type"] == "message" else {})
        yield {"type": "response.output_item.added", "output_index": place, "item": begun}
        if item["type"] == "message":
            for part in item["content"]:
                told = {"item_id": item["id"], "output_index": place, "content_index": 0, "logprobs": []}
                yield {"type": "response.output_text.delta", **told, "delta": part.get("text", "")}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}


def _frame(event: Json, number: int, form: Form) -> bytes:
    data = orjson.dumps({**event, "sequence_number": number} if form.numbers else event)
    name = b"event: %b%b" % (str(event["type"]).encode(), form.line_end) if form.names_events else b""
    return b"%bdata: %b%b%b" % (name, data, form.line_end, form.line_end)


def _stream(row: Exchange, model: str) -> Reply:
    kind = row.form.stream_type
    head = {"transfer-encoding": "chunked"} | ({} if kind is None else {"content-type": kind})
    frames = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames_of(row, model)]
    return Reply([Reply.head(200, head), *frames, b"0\r\n\r\n"])


def _body(row: Exchange, model: str) -> Reply:
    raw = orjson.dumps(response_of(row, model))
    kind = row.form.json_type
    head = {"content-length": str(len(raw))} | ({} if kind is None else {"content-type": kind})
    return Reply([Reply.head(200, head) + raw])
