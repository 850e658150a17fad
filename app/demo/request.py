"""One create call, read and checked. What a server without a memory could not honour is refused here, not ignored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.demo.directives import Directives, read_directives
from app.demo.history import History
from app.demo.items import read_items
from app.demo.tools import Toolbox, read_toolbox
from app.errors import NotFoundError
from app.wire import wording
from app.wire.requests import parse_create_request

MODEL = "demo"

# orjson writes 254 levels, and what is echoed stands a few deeper in its event than in the request.
_MAX_DEPTH = 250


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
        """The parameter at a dotted path, None where the path leaves the objects."""
        value: Any = self.body
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def read_request(raw: bytes) -> Request:
    """Raises InvalidRequestError (400) or NotFoundError (404)."""
    body = parse_create_request(raw, _MAX_DEPTH).fields
    # A prompt template could name the model: this one has none.
    model = body.get("model") or ""
    if model != MODEL:
        raise wording.unknown_model(model)
    refuse_state(body)
    history = History(read_items(body["input"]))
    choice = body.get("tool_choice")
    toolbox = read_toolbox(body.get("tools") or (), "auto" if choice is None else choice)
    return Request(body, history, toolbox, read_directives(history.last_user_text))


def refuse_state(body: Mapping[str, Any]) -> None:
    """Raises for what only a server with a memory could do, whatever the callers' API allows."""
    refused = {
        "conversation": body.get("conversation") is not None,
        "previous_response_id": body.get("previous_response_id") is not None,
        "background": body.get("background") is True,
        # Absent means true.
        "store": body.get("store") is not False,
    }
    for name, given in refused.items():
        if given:
            wanted = ". Send 'store': false" if name == "store" else ""
            raise wording.unsupported(name, f"with this model, which keeps no state{wanted}")
    if body.get("prompt") is not None:
        raise NotFoundError(f"Prompt with id '{body['prompt']['id']}' not found.")
