"""Rows of the table: how responses end, how vendors say it, and what they say in place of a response."""

from typing import Any

import orjson

from tests.exchanges.exchange import Exchange, Form, Json, Refusal, calls, says
from tests.fakes.replies import Reply

_ALONE = ("create", "stream", "background", "websocket")
_STREAMS = ("stream", "background", "websocket")
_FAILED: Json = {"error": {"code": "server_error", "message": "The model broke."}}


def _form(name: str, *, only: Any = None, **form: Any) -> Exchange:
    row = Exchange(name=name, form=Form(**form))
    return row if only is None else Exchange(name=name, form=Form(**form), only=only)


def _stream(name: str, **form: Any) -> Exchange:
    return _form(name, only=_STREAMS, **form)


def _body(name: str, **form: Any) -> Exchange:
    return _form(name, only=("create", "chain"), **form)


def _with(name: str, **members: Any) -> Exchange:
    return Exchange(name=name, members=members)


ENDINGS = (
    Exchange(
        name="it ends at its limit",
        status="incomplete",
        members={"incomplete_details": {"reason": "max_output_tokens"}},
        says=[says("Once upon", status="incomplete")],
    ),
    Exchange(
        name="it ends by a filter",
        status="incomplete",
        members={"incomplete_details": {"reason": "content_filter"}},
        says=[],
    ),
    Exchange(name="it fails", status="failed", members=_FAILED, says=[], then=(), only=_ALONE),
    Exchange(name="it fails half-way", status="failed", members=_FAILED, then=(), only=_ALONE),
    Exchange(name="it is cut off", status="failed", form=Form(ends_with=""), then=(), only=_STREAMS),
    Exchange(
        name="it is cut off and says it is done",
        status="failed",
        form=Form(ends_with="", done=True),
        then=(),
        only=_STREAMS,
    ),
    Exchange(
        name="it is cut off with an error",
        status="failed",
        form=Form(
            ends_with="", beside=[{"type": "error", "code": "server_error", "message": "Broken.", "param": None}]
        ),
        then=(),
        only=_STREAMS,
    ),
    Exchange(
        name="a call is cut off",
        status="incomplete",
        members={"incomplete_details": {"reason": "max_output_tokens"}},
        says=[says(), calls(status="incomplete", arguments='{"a')],
        replayed=[says()],
    ),
)

FORMS = (
    _stream("a stream without a type", stream_type=None),
    _stream("a stream as plain text", stream_type="text/plain; charset=utf-8"),
    _stream("a stream as bytes", stream_type="application/octet-stream"),
    _stream("a stream as JSON", stream_type="application/json"),
    _stream("a stream with another case and a charset", stream_type="Text/Event-Stream; charset=UTF-8"),
    _body("a body as plain text", json_type="text/plain"),
    _body("a body without a type", json_type=None),
    _body("a body as a stream", json_type="text/event-stream"),
    _form("the other form than was asked", only=_ALONE, swaps=True),
    _stream("a last snapshot that is empty", snapshot="empty"),
    _stream("a last snapshot without output", snapshot="absent"),
    _stream("it is done under another name", ends_with="response.done"),
    _stream("it is completed and says that it goes on", status="in_progress"),
    _stream("it is not announced", begins=False),
    _form("it says it is done after its end", done=True),
    _form("lines end in CRLF", line_end=b"\r\n"),
    _form("events without names", names_events=False),
    _form("events without numbers", numbers=False),
    _form(
        "events of its own",
        beside=[
            {"type": "keepalive"},
            {"type": "response.brand_new.event", "x": 1},
            {"type": "response.output_text.delta"},
        ],
    ),
    _with("without usage", usage=None),
    _with("without a status", status=...),
    _with("without most members", **dict.fromkeys(("metadata", "tools", "tool_choice", "text", "store", "top_p"), ...)),
    _with("with members of Azure", content_filters=[{"blocked": False}], output_text="Hello."),
    _with("with members of OpenRouter", openrouter_metadata={"x": 1}, error_type=None, usage_cost=0.0012),
    _with("with a time of another kind", created_at=1_790_000_000.25, completed_at=None),
    _with("with usage of another kind", usage={"input_tokens": 11, "output_tokens": 5, "total_tokens": 16, "x": None}),
)


def _refused(name: str, reply: Reply, status: int, words: str, code: str | None = None, **how: Any) -> Exchange:
    return Exchange(
        name=name, refusal=Refusal(reply=reply, status=status, words=words, code=code), then=(), only=_ALONE, **how
    )


def _says(status: int, value: object) -> Reply:
    return Reply.json(status, value)


def _error(message: str, **members: Any) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **members}}


REFUSALS = (
    _refused(
        "refused by OpenAI", _says(400, _error("Bad.", param="x", code="invalid_value")), 400, "Bad.", "invalid_value"
    ),
    _refused("refused by xAI", _says(400, {"code": "Bad argument", "error": "Bad."}), 400, "Bad.", "Bad argument"),
    _refused("refused by FastAPI", _says(422, {"detail": [{"loc": ["body", "x"], "msg": "Bad."}]}), 422, "Bad."),
    _refused("refused by Codex's backend", _says(400, {"detail": "Unsupported parameter: x"}), 400, "Unsupported"),
    _refused("refused in plain text", Reply.body(400, b"Bad.", content_type="text/plain"), 400, "Bad."),
    _refused("refused in a list", _says(400, {"errors": [{"message": "Bad."}]}), 400, "Bad."),
    _refused("refused in two layers", _says(400, {"error": _error("Bad.", code="x_code")}), 400, "Bad.", "x_code"),
    _refused(
        "refused by Gemini", _says(400, [{"error": {"code": 400, "message": "Bad.", "status": "X"}}]), 400, "Bad."
    ),
    _refused("refused by Bedrock", _says(400, {"message": "Bad."}), 400, "Bad."),
    _refused("refused by a proxy", Reply.html(400), 400, ""),
    _refused(
        "too long",
        _says(400, _error("Too long.", code="context_length_exceeded")),
        400,
        "Too",
        "context_length_exceeded",
    ),
    _refused("too large", _says(413, _error("Large.")), 413, "Large."),
    _refused("a model that is not there", _says(404, _error("No such model.", code="model_not_found")), 404, "model"),
    _refused(
        "an item that is not there",
        _says(404, _error("Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.")),
        404,
        "rs_1",
    ),
    _refused("an error under 200", _says(200, _error("Bad.", code="invalid_prompt")), 400, "Bad.", "invalid_prompt"),
    _refused("an error of OpenRouter under 200", _says(200, {"error": {"message": "Bad.", "code": 400}}), 400, "Bad."),
    _refused("no object", Reply.body(200, orjson.dumps(["x"])), 502, ""),
)
ROWS = (*ENDINGS, *FORMS, *REFUSALS)
