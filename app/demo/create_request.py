"""Parse and validate a create call; parameters that need stored state are refused, not ignored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.demo.conversation_input import History
from app.demo.directives import Directives, read_directives
from app.demo.item_rules import read_items
from app.demo.toolbox import Toolbox, read_toolbox
from app.errors import NotFoundError
from app.wire import error_messages
from app.wire.requests.create import parse_create_request

MODEL = "demo"

# orjson writes 254 levels, and an echoed value stands a few deeper in its event than in the request.
_MAX_DEPTH = 250


@dataclass(frozen=True, slots=True)
class Request:
    """Hold a parsed call: `body` is the decoded JSON, for the echoed parameters; the model reads the rest."""

    body: Mapping[str, Any]
    history: History
    toolbox: Toolbox
    directives: Directives

    def includes(self, name: str) -> bool:
        """Tell whether `include` has this name."""
        return name in (self.body.get("include") or ())

    def at(self, path: str) -> Any:
        """Return the parameter at a dotted path, None where the path leaves the objects."""
        value: Any = self.body
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def read_request(raw: bytes) -> Request:
    """Parse a request's body. Raises InvalidRequestError (400) or NotFoundError (404)."""
    body = parse_create_request(raw, _MAX_DEPTH).fields
    # A prompt template could name the model; the demo has no templates.
    model = body.get("model") or ""
    if model != MODEL:
        raise error_messages.unknown_model(model)
    refuse_state(body)
    history = History(read_items(body["input"]))
    choice = body.get("tool_choice")
    toolbox = read_toolbox(body.get("tools") or (), "auto" if choice is None else choice)
    return Request(body, history, toolbox, read_directives(history.last_user_text))


def refuse_state(body: Mapping[str, Any]) -> None:
    """Refuse the parameters that need stored state, whatever the API allows."""
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
            raise error_messages.unsupported(name, f"with this model, which keeps no state{wanted}")
    if body.get("prompt") is not None:
        raise NotFoundError(f"Prompt with id '{body['prompt']['id']}' not found.")
