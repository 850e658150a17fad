"""A page of items, as the list endpoints show them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from msgspec.structs import replace

from app.errors import InvalidRequestError
from app.state.records import Chain, Item
from app.state.replay import once, said_in
from app.wire.body import Json, elements, join_array, join_object, members

DEFAULT_LIMIT = 20

# A page of large items is shorter than it could be: whoever reads on gets the rest.
_PAGE_BYTES = 16 * 1024 * 1024

_ASSISTANT, _COMPLETED, _NOTHING = Json(b'"assistant"'), Json(b'"completed"'), Json(b"")
_NULL, _NONE, _CLIENT = Json(b"null"), Json(b"[]"), Json(b'"client"')
_PARTS = ("content", "output")
# What OpenAI lists, and the SDK's types require, of parts and items that a client may send without it.
_COMPLETE_PART: Mapping[str, Mapping[str, Json]] = {
    "input_image": {"detail": Json(b'"auto"')},
    "output_text": {"annotations": _NONE, "logprobs": _NONE},
}
_COMPLETE: Mapping[str, Mapping[str, Json]] = {
    "code_interpreter_call": {"code": _NULL, "outputs": _NULL},
    "computer_call": {"pending_safety_checks": _NONE},
    "image_generation_call": {"result": _NULL},
    "reasoning": {"summary": _NONE},
    "shell_call": {"environment": _NULL},
    "shell_call_output": {"max_output_length": _NULL},
    "tool_search_call": {"call_id": _NULL, "execution": _CLIENT},
    "tool_search_output": {"call_id": _NULL, "execution": _CLIENT},
}


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page: `after` and `before` are item ids, in the given order."""

    limit: int = DEFAULT_LIMIT
    ascending: bool = False
    after: str | None = None
    before: str | None = None

    @property
    def is_read_back(self) -> bool:
        """Whether the page is the one that ends at its cursor, as `before` alone asks for."""
        return bool(self.before and not self.after)


def input_of(chain: Chain) -> tuple[Item, ...]:
    """All that went into the latest response: the turns before it, and then its own input; oldest first, each once."""
    *earlier, latest = chain.turns
    items = [item for turn in said_in(earlier) for item in turn.items]
    items += [item for item in latest.items if not item.is_output]
    return _apart(once(items))


def _apart(items: Sequence[Item]) -> tuple[Item, ...]:
    """These items, each under an id that no other has, and that is the same on every page: an id is a cursor."""
    taken = {item.id for item in items}
    if len(taken) == len(items):
        return tuple(items)
    times: Counter[str] = Counter()
    apart: list[Item] = []
    for item in items:
        name = item.id
        times[name] += 1
        while times[item.id] > 1 and name in taken:
            name = f"{item.id}_{times[item.id]}"
            times[item.id] += name in taken
        taken.add(name)
        apart.append(item if name == item.id else replace(item, id=name))
    return tuple(apart)


def page(items: Sequence[Item], query: PageQuery) -> bytes:
    """The list object for this page of items (given oldest first). Raises InvalidRequestError for an unknown cursor."""
    by_id = {item.id: item for item in items}
    shown, has_more = choose(list(by_id), query, {item.id: len(item.content) for item in items})
    return listing([by_id[item_id] for item_id in shown], has_more=has_more)


def choose(ids: Sequence[str], query: PageQuery, sizes: Mapping[str, int]) -> tuple[Sequence[str], bool]:
    """The ids of this page (given oldest first), and whether more follow. InvalidRequestError for an unknown cursor.

    By their `sizes` in bytes it may be cut short.
    """
    ordered = ids if query.ascending else ids[::-1]
    places = {item_id: place for place, item_id in enumerate(ordered)}
    start = _place(places, query.after, "after", default=-1) + 1
    end = _place(places, query.before, "before", default=len(ordered))
    between = ordered[start:end]
    if query.is_read_back:
        shown = between[-query.limit :]
        shown = shown[len(shown) - fitting([sizes[item_id] for item_id in shown[::-1]]) :]
    else:
        shown = between[: query.limit]
        shown = shown[: fitting([sizes[item_id] for item_id in shown])]
    return shown, len(shown) < len(between)


def fitting(lengths: Sequence[int]) -> int:
    """How many items of these lengths a page has room for; always one."""
    room = _PAGE_BYTES
    for number, length in enumerate(lengths):
        room -= length
        if room < 0 < number:
            return number
    return len(lengths)


def unknown_cursor(name: str, item_id: str) -> InvalidRequestError:
    """The error for an item that a page is to begin or end at and that is not in its list."""
    return InvalidRequestError(f"Invalid '{name}': no item with id '{item_id[:100]}' in this list.", param=name)


def listing(shown: Sequence[Item], *, has_more: bool) -> bytes:
    """The list object of these items, in this order."""
    # Joined once: a page may weigh as much as all else that its call holds.
    parts = [b'{"object":"list","data":[']
    for item in shown:
        parts += (listed(item), b",")
    if shown:
        parts.pop()
    ends = [orjson.dumps(item.id) for item in (shown[0], shown[-1])] if shown else [b"null", b"null"]
    parts.append(b'],"first_id":%b,"last_id":%b,"has_more":%b}' % (*ends, orjson.dumps(has_more)))
    return b"".join(parts)


def listed(item: Item) -> bytes:
    """The item as it is shown: with its id, its type, and content in parts."""
    item_id = Json(orjson.dumps(item.id))
    parts = {"id": item_id, "type": Json(orjson.dumps(item.type)), **members(item.content)}
    parts["id"] = item_id
    if item.type == "message":
        content = parts.get("content", _NOTHING)
        if memoryview(content)[:1].tobytes() == b'"':
            parts["content"] = Json(_text_part(bytes(content), by_assistant=parts.get("role") == _ASSISTANT))
        parts.setdefault("status", _COMPLETED)
    elif item.type.endswith(("_call", "_output")):
        parts.setdefault("status", _COMPLETED)
    for name in _PARTS:
        if name in parts and memoryview(parts[name])[:1].tobytes() == b"[":
            parts[name] = _complete_parts(parts[name])
    for name, member in _COMPLETE.get(item.type, {}).items():
        parts.setdefault(name, member)
    return join_object(parts)


def _complete_parts(sent: Json) -> Json:
    """An array of parts, each with what its type requires; the same bytes where none lacks anything."""
    complete: list[bytes] = []
    is_changed = False
    for raw in elements(sent):
        part = members(raw) if raw[:1] == b"{" else {}
        needs = _COMPLETE_PART.get(str(orjson.loads(bytes(part.get("type", _NULL)))), {})
        lacking = {name: member for name, member in needs.items() if part.get(name, _NULL) == _NULL}
        is_changed = is_changed or bool(lacking)
        complete.append(join_object({**part, **lacking}) if lacking else raw)
    return Json(join_array(complete)) if is_changed else sent


def _text_part(text: bytes, *, by_assistant: bool) -> bytes:
    if by_assistant:
        return b'[{"type":"output_text","text":' + text + b',"annotations":[],"logprobs":[]}]'
    return b'[{"type":"input_text","text":' + text + b"}]"


def _place(places: dict[str, int], item_id: str | None, name: str, default: int) -> int:
    if item_id is None:
        return default
    place = places.get(item_id)
    if place is None:
        raise unknown_cursor(name, item_id)
    return place
