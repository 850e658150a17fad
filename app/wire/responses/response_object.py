"""Read the members of a response object that the gateway needs, and rewrite the few that it answers for itself."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from app.wire.json.repair import repaired
from app.wire.json.sliced_decoder import ARRAYS, Elements, SlicedDecoder
from app.wire.json.tokenizer import DEEPEST, NotJsonError
from app.wire.json_body import Json, check_depth, elements, is_large, join_array, join_object, members
from app.wire.responses.echo import NOTHING_USED, REQUIRED, echo

_NULL, _TRUE, _FALSE = Json(b"null"), Json(b"true"), Json(b"false")
_NO_CONVERSATION = b',"conversation":null}'
_ARRAY = ord("[")
_ABSENT = object()
_KNOWN = (
    *("background", "conversation", "error", "id", "incomplete_details"),
    *("model", "output", "previous_response_id", "service_tier", "status", "usage"),
)
STATUSES = frozenset({"queued", "in_progress", "completed", "incomplete", "failed", "cancelled"})
# Upstreams send null for these, where the API has a value.
_NEVER_NULL = ("object", "created_at", "metadata", "model", "parallel_tool_calls", "tool_choice", "tools")


class ResponseFacts(msgspec.Struct):
    """Hold what the gateway reads of a response object, whose bytes are `raw`; `usage` is None until known.

    `error_code` is its error's, `service_tier` the tier it was served in. `web_searches` and `file_searches` count
    the calls in its output that upstreams charge for. `is_stateless`: it says that it is not stored, continues nothing
    and ran in no background, and its conversation is null, or absent where not `names_conversation`. `names_status` and
    `has_output`: whether it has a known status, and output. `parts` are its members, once they have been asked for;
    `split` are the items of a large output.
    """

    id: str
    status: str
    model: str
    usage: Mapping[str, Any] | None
    error_code: str | None
    raw: bytes
    is_stateless: bool
    names_conversation: bool
    names_status: bool
    has_output: bool
    parts: dict[str, Json] | None = None
    split: Elements | None = None
    service_tier: str | None = None
    web_searches: int = 0
    file_searches: int = 0

    @property
    def members(self) -> dict[str, Json]:
        """Return the response's values as sent."""
        if self.parts is None:
            self.parts = members(self.raw)
        return self.parts

    @property
    def output(self) -> list[bytes]:
        """Return each output item's bytes."""
        if self.split is not None:
            return list(map(bytes, self.split.sent))
        sent = self.members.get("output", _NULL)
        return elements(sent) if memoryview(sent)[0] == _ARRAY else []

    def with_status(self, status: str, error: Mapping[str, str] | None = None) -> "ResponseFacts":
        """Return the same response with this status, and this error if there is one."""
        changed: dict[str, Json] = {"status": Json(orjson.dumps(status))}
        if error is not None:
            changed["error"] = Json(orjson.dumps(dict(error)))
        parts = {**self.members, **changed}
        code = self.error_code if error is None else error["code"]
        raw = join_object(parts)
        return msgspec.structs.replace(self, status=status, error_code=code, names_status=True, raw=raw, parts=parts)

    def with_output(self, items: Sequence[bytes]) -> "ResponseFacts":
        """Return the same response with these items as its output."""
        parts = {**self.members, "output": Json(join_array(items))}
        return msgspec.structs.replace(self, has_output=True, raw=join_object(parts), parts=parts, split=None)

    def as_asked(
        self,
        *,
        store: bool,
        previous_response_id: str | None,
        conversation_id: str | None = None,
        background: bool = False,
        background_id: str | None = None,
        created_at: Json | None = None,
    ) -> bytes:
        """Write the response object with the members that say what this gateway's client asked.

        Upstream was called statelessly, so its own `store` and `previous_response_id` are of another call. Every other
        member keeps upstream's bytes. A background response also has its own id, time and status, which were set before
        upstream was called.
        """
        if self.is_stateless and not (store or previous_response_id or conversation_id or background):
            # The object says so already.
            return self.raw if self.names_conversation else self.raw[: self.raw.rindex(b"}")] + _NO_CONVERSATION
        previous = _NULL if previous_response_id is None else Json(orjson.dumps(previous_response_id))
        conversation = _NULL if conversation_id is None else Json(orjson.dumps({"id": conversation_id}))
        asked = {
            "store": _TRUE if store else _FALSE,
            "previous_response_id": previous,
            "conversation": conversation,
            "background": _TRUE if background else _FALSE,
        }
        if background_id is not None:
            # Clients that poll look for the status, which upstream may leave out.
            asked |= {"id": Json(orjson.dumps(background_id)), "status": Json(orjson.dumps(self.status))}
            if created_at is not None:
                asked["created_at"] = created_at
        return join_object({**self.members, **asked})


def read(raw: bytes) -> ResponseFacts | None:
    """Read a response object; None when these bytes are not one (JSON, an id, output items).

    Half a surrogate pair or invalid UTF-8 is repaired first.
    """
    facts = _read(raw)
    if facts is None and (fixed := repaired(raw)) != raw:
        return _read(fixed)
    return facts


def _read(raw: bytes) -> ResponseFacts | None:
    parts: dict[str, Json] | None = None
    try:
        if is_large(raw):
            response, parts = _read_in_slices(raw)
        else:
            response = orjson.loads(raw)
        if type(response) is not dict:
            return None
        check_depth(raw)
    except (NotJsonError, orjson.JSONDecodeError, RecursionError):
        return None
    get = response.get
    output = get("output")
    response_id, status_given = get("id"), get("status")
    names_status = type(status_given) is str and status_given in STATUSES
    status = str(status_given) if names_status else _implied_status(get)
    searches = _searches(output) if output else (0, 0)
    if type(response_id) is not str or not response_id or searches is None:
        return None
    usage, tier, error = get("usage"), get("service_tier"), get("error")
    conversation = get("conversation", _ABSENT)
    return ResponseFacts(
        response_id,
        status,
        str(get("model") or ""),
        usage if type(usage) is dict else None,
        None if error is None else _error_code(error),
        raw,
        get("store") is False
        and get("background") is False
        and get("previous_response_id", _ABSENT) is None
        and (conversation is None or conversation is _ABSENT),
        conversation is not _ABSENT,
        names_status,
        bool(output),
        parts,
        output if type(output) is Elements else None,
        tier if type(tier) is str else None,
        *searches,
    )


def _read_in_slices(raw: bytes) -> tuple[dict[str, Any] | None, dict[str, Json] | None]:
    """Read the members of a large object, decoded and as sent; None for what is no object. Raises NotJsonError."""
    decoder = SlicedDecoder(raw, DEEPEST)
    found = decoder.members(_KNOWN, "output")
    return (None, None) if found is None or decoder.is_too_deep else found


def text_of(facts: ResponseFacts) -> str:
    """Join the text that the model wrote in a response."""
    messages = [item for item in map(orjson.loads, facts.output) if item.get("type") == "message"]
    parts = [part for message in messages for part in message.get("content") or () if isinstance(part, Mapping)]
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    return "".join([text for text in texts if isinstance(text, str)])


def _searches(output: Any) -> tuple[int, int] | None:
    """Count the searches of the web and of stored files that may be charged for: opening a page is free.

    None where the output is no list of items.
    """
    if type(output) not in ARRAYS:
        return None
    web = files = 0
    for item in output:
        if type(item) is not dict:
            return None
        kind = item.get("type")
        if type(kind) is not str:
            if kind is not None:
                return None
        elif kind == "web_search_call":
            action = item.get("action")
            web += type(action) is not dict or action.get("type", "search") == "search"
        elif kind == "file_search_call":
            files += 1
    return web, files


def _implied_status(get: Callable[[str], Any]) -> str:
    """Imply the status of a response that names none of the known."""
    if get("error"):
        return "failed"
    return "incomplete" if get("incomplete_details") else "completed"


def _error_code(error: object) -> str | None:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def ended(raw: bytes, status: str, output: Sequence[bytes], error: Mapping[str, str] | None = None) -> bytes:
    """Write the response object as ended with `status` and the finished items, without upstream's terminal event.

    Members that OpenAI's types require and that upstream left out of the announced object are added.
    """
    now = Json(b"%d" % time.time())
    parts = {"created_at": now, **REQUIRED, **members(raw)}
    for name in _NEVER_NULL:
        if parts[name] == _NULL:
            parts[name] = REQUIRED.get(name, now)
    parts["status"] = Json(orjson.dumps(status))
    parts["output"] = Json(join_array(output))
    parts["error"] = Json(orjson.dumps(None if error is None else dict(error)))
    parts["completed_at"] = now if status == "completed" else _NULL
    # A usage that upstream announced is not the usage at the end.
    parts["usage"] = _NULL
    return join_object(parts)


def merged(announced: bytes, later: Mapping[str, Json]) -> bytes:
    """Add the members that came later to the response that was announced."""
    return join_object({**members(announced), **later})


def with_last_items(raw: bytes, count: int) -> bytes:
    """Keep only the last `count` output items of the response object."""
    parts = members(raw)
    output = elements(parts["output"])
    return join_object({**parts, "output": Json(join_array(output[max(0, len(output) - count) :]))})


def renamed(raw: bytes, response_id: str) -> bytes:
    """Replace the id of the response object; what is no response object stays as it is."""
    facts = read(raw)
    return raw if facts is None else join_object({**facts.members, "id": Json(orjson.dumps(response_id))})


def placeholder_response(fields: Mapping[str, Any]) -> bytes:
    """Make the response object of a run for which upstream never sent one: an id of ours, echoing the request.

    The secrets of the client's tools are left out.
    """
    return orjson.dumps(echo(fields))


def warm_up_response(fields: Mapping[str, Any]) -> bytes:
    """Make the response object of a warm-up, which asked for no answer: completed, with no usage."""
    made = echo(fields)
    completed = {"completed_at": made["created_at"], "status": "completed", "usage": {**NOTHING_USED}}
    return orjson.dumps({**made, **completed})
