"""The response object: what the gateway reads from it, and the few members it answers for itself."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from app.wire.body import Json, check_depth, elements, is_large, join_array, join_object, members
from app.wire.echo import NOTHING_USED, REQUIRED, echo
from app.wire.mending import mended
from app.wire.slices import ARRAYS, Elements, Reader
from app.wire.tokens import DEEPEST, NotJsonError

_NULL, _TRUE, _FALSE = Json(b"null"), Json(b"true"), Json(b"false")
_NO_CONVERSATION = b',"conversation":null}'
_ARRAY = ord("[")
_ABSENT = object()
_KNOWN = (
    *("background", "conversation", "error", "id", "incomplete_details"),
    *("model", "output", "previous_response_id", "service_tier", "status", "usage"),
)
_STATUSES = frozenset({"queued", "in_progress", "completed", "incomplete", "failed", "cancelled"})
# Upstreams send null for these, which the API does not.
_NEVER_NULL = ("object", "created_at", "metadata", "model", "parallel_tool_calls", "tool_choice", "tools")


class ResponseFacts(msgspec.Struct):
    """What the gateway reads of a response object, whose bytes are `raw`; `usage` is None until known.

    `error_code` is that of its error, `service_tier` the one it was served in. `web_searches` and `file_searches` are
    the calls in its output that upstreams charge for. `is_stateless`: it says that it is not stored, goes on from
    nothing and ran in no background, and of a conversation null, or nothing where not `names_conversation`.
    `names_status` and `has_output`: whether it says how it ended, and what was said. `parts` are its members, once they
    have been asked for; `split` are the items of a large output.
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
        """Its values as sent."""
        if self.parts is None:
            self.parts = members(self.raw)
        return self.parts

    @property
    def output(self) -> list[bytes]:
        """Each output item's bytes."""
        if self.split is not None:
            return list(map(bytes, self.split.sent))
        sent = self.members.get("output", _NULL)
        return elements(sent) if memoryview(sent)[0] == _ARRAY else []

    def with_status(self, status: str, error: Mapping[str, str] | None = None) -> "ResponseFacts":
        """The same response with this status, and this error if there is one."""
        said: dict[str, Json] = {"status": Json(orjson.dumps(status))}
        if error is not None:
            said["error"] = Json(orjson.dumps(dict(error)))
        parts = {**self.members, **said}
        code = self.error_code if error is None else error["code"]
        raw = join_object(parts)
        return msgspec.structs.replace(self, status=status, error_code=code, names_status=True, raw=raw, parts=parts)

    def with_output(self, items: Sequence[bytes]) -> "ResponseFacts":
        """The same response with these items as its output."""
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
        """The response object with the members that say what this gateway's client asked.

        Upstream was called statelessly, so its own `store` and `previous_response_id` speak of another call. Every
        other member keeps upstream's bytes, but for the id and the time of one in the background, which were given
        before upstream was called, and its status.
        """
        if self.is_stateless and not (store or previous_response_id or conversation_id or background):
            # It says so already.
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
            # Who polls looks for the status, which upstream may have left out.
            asked |= {"id": Json(orjson.dumps(background_id)), "status": Json(orjson.dumps(self.status))}
            if created_at is not None:
                asked["created_at"] = created_at
        return join_object({**self.members, **asked})


def read(raw: bytes) -> ResponseFacts | None:
    """Read a response object; None when these bytes are not one (JSON, an id, output items).

    Where nothing but half a surrogate pair or a byte that is no UTF-8 is wrong with it, it is read mended.
    """
    facts = _read(raw)
    if facts is None and (good := mended(raw)) != raw:
        return _read(good)
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
    told = response.get
    output = told("output")
    named, said = told("id"), told("status")
    names_status = type(said) is str and said in _STATUSES
    status = str(said) if names_status else _implied(told)
    searches = _searches(output) if output else (0, 0)
    if type(named) is not str or not named or searches is None:
        return None
    usage, tier, error = told("usage"), told("service_tier"), told("error")
    conversation = told("conversation", _ABSENT)
    return ResponseFacts(
        named,
        status,
        str(told("model") or ""),
        usage if type(usage) is dict else None,
        None if error is None else _error_code(error),
        raw,
        told("store") is False
        and told("background") is False
        and told("previous_response_id", _ABSENT) is None
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
    """The members of a large object, decoded and as they were sent; None for what is none. Raises NotJsonError."""
    reader = Reader(raw, DEEPEST)
    found = reader.members(_KNOWN, "output")
    return (None, None) if found is None or reader.is_too_deep else found


def text_of(facts: ResponseFacts) -> str:
    """What the model has said in a response."""
    messages = [item for item in map(orjson.loads, facts.output) if item.get("type") == "message"]
    parts = [part for message in messages for part in message.get("content") or () if isinstance(part, Mapping)]
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    return "".join([text for text in texts if isinstance(text, str)])


def _searches(output: Any) -> tuple[int, int] | None:
    """How often the web and stored files were searched, of what may be charged for: a page that is opened is not.

    None where these are no items.
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


def _implied(told: Callable[[str], Any]) -> str:
    """The status of a response that names none that there is."""
    if told("error"):
        return "failed"
    return "incomplete" if told("incomplete_details") else "completed"


def _error_code(error: object) -> str | None:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def ended(raw: bytes, status: str, output: Sequence[bytes], error: Mapping[str, str] | None = None) -> bytes:
    """The response object as it stands without upstream's last word: `status`, the items finished.

    What upstream left out of the object that it announced, and OpenAI's types ask for, is there.
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
    # What some say of it when they begin is not what it took.
    parts["usage"] = _NULL
    return join_object(parts)


def merged(announced: bytes, said: Mapping[str, Json]) -> bytes:
    """The response that was announced, with the members that were said of it later."""
    return join_object({**members(announced), **said})


def with_last_items(raw: bytes, count: int) -> bytes:
    """The response object with so many of its output items, the last."""
    parts = members(raw)
    output = elements(parts["output"])
    return join_object({**parts, "output": Json(join_array(output[max(0, len(output) - count) :]))})


def renamed(raw: bytes, response_id: str) -> bytes:
    """The response object with this id; what is none stays as it is."""
    facts = read(raw)
    return raw if facts is None else join_object({**facts.members, "id": Json(orjson.dumps(response_id))})


def unannounced(fields: Mapping[str, Any]) -> bytes:
    """A response object for a run of which upstream never sent one, with an id of ours, echoing the request.

    Nothing in it authenticates: a client's tools may have secrets.
    """
    return orjson.dumps(echo(fields))


def warmed(fields: Mapping[str, Any]) -> bytes:
    """The response object of a request that asked for no answer, and so is complete, for nothing."""
    made = echo(fields)
    completed = {"completed_at": made["created_at"], "status": "completed", "usage": {**NOTHING_USED}}
    return orjson.dumps({**made, **completed})
