"""One create call, read and checked. What a server without a memory could not honour is refused here, not ignored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.demo.directives import Directives, read_directives
from app.demo.history import History
from app.demo.items import read_items
from app.demo.parameters import check_parameters, invalid_type, missing, value_at
from app.demo.tools import Toolbox, read_toolbox
from app.errors import InvalidRequestError, NotFoundError

MODEL = "demo"

_NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)


@dataclass(frozen=True, slots=True)
class Request:
    """`body` is the decoded JSON, for the parameters that are echoed; the rest is what the model reads."""

    body: Mapping[str, Any]
    history: History
    toolbox: Toolbox
    directives: Directives

    def includes(self, name: str) -> bool:
        """Whether `include` asks for it."""
        return name in (self.body.get("include") or ())

    def at(self, path: str) -> Any:
        """The parameter at a dotted path, None when it is absent."""
        return value_at(self.body, path)


def read_request(raw: bytes) -> Request:
    """Raises InvalidRequestError (400) or NotFoundError (404), in the order OpenAI checks (spec §2)."""
    body = _decoded(raw)
    for name in ("model", "input"):
        if name not in body:
            raise missing(name)
    if not isinstance(body["model"], str):
        raise invalid_type("model", "a string", body["model"])
    if body["model"] != MODEL:
        raise unknown_model(body["model"])
    history = History(read_items(body["input"]))
    check_parameters(body)
    choice = body.get("tool_choice")
    toolbox = read_toolbox(body.get("tools") or (), "auto" if choice is None else choice)
    _refuse_state(body)
    if not history.items:
        raise InvalidRequestError(
            """One of "input" or "previous_response_id" or 'prompt' or 'conversation' must be provided.""",
            code="missing_required_parameter",
        )
    return Request(body, history, toolbox, read_directives(history.last_user_text))


def unknown_model(name: str) -> InvalidRequestError:
    """The refusal of every model but the one."""
    return InvalidRequestError(f"The requested model '{name}' does not exist.", code="model_not_found", param="model")


def _decoded(raw: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(raw)
        # orjson reads deeper than it writes; what is echoed inside an event has to be writable.
        orjson.dumps([[[[body]]]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        raise InvalidRequestError(_NOT_JSON) from None
    if not isinstance(body, Mapping):
        raise invalid_type("body", "an object", body)
    return body


def _refuse_state(body: Mapping[str, Any]) -> None:
    refused = {
        "conversation": body.get("conversation") is not None,
        "previous_response_id": body.get("previous_response_id") is not None,
        "background": body.get("background") is True,
        # Absent means true.
        "store": body.get("store") is not False,
    }
    for name, given in refused.items():
        if given:
            wanted = " Send 'store': false." if name == "store" else ""
            raise InvalidRequestError(
                f"Unsupported parameter: '{name}' is not supported with this model, which keeps no state.{wanted}",
                code="unsupported_parameter",
                param=name,
            )
    if body.get("prompt") is not None:
        raise NotFoundError(f"Prompt with id '{value_at(body, 'prompt.id')}' not found.")
