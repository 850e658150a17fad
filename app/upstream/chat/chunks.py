"""Read one chunk of a chat stream, or a whole completion, whatever a server has put where something else belongs."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from app.upstream.chat.errors import ChatError, amid
from app.wire import sse
from app.wire.json.repair import repaired
from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError, is_deeper

# What is nested deeper could be written into no event.
_DEEPEST = 100
_CITED = ("url", "title", "start_index", "end_index")
_NO_JSON = ChatError("Upstream's answer is not JSON that can be read.", "server_error")


def read_chunk(data: bytes, *, is_error: bool = False) -> tuple[Any, ChatError | None]:
    """Decode a chunk or a completion; return it with the error that it is, or that it reports: then it is no object.

    `is_error`: it came as the event of an error.
    """
    try:
        chunk = _decoded(data)
    except NotJsonError:
        return None, _NO_JSON
    if is_error and not (isinstance(chunk, dict) and "error" in chunk):
        chunk = {"error": chunk}
    return chunk, amid(chunk)


def only_member(frame: bytes) -> tuple[str, Any]:
    """Return the one member that the delta of a chunk sets, and its value; an empty name where the chunk says more."""
    try:
        told = orjson.loads(sse.event_data(frame))
        (choice,) = told["choices"]
        ((name, value),) = [each for each in choice["delta"].items() if each[1] and each[0] != "role"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return "", None
    is_more = choice.get("finish_reason") or choice.get("logprobs") or told.get("usage") or told.get("error")
    return ("", None) if is_more else (name, value)


def citations(delta: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the annotations of a delta or a message that cite an address, in our form."""
    for annotation in list_in(delta, "annotations"):
        cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(cited, dict) and isinstance(cited.get("url"), str):
            yield {"type": "url_citation", **{name: cited[name] for name in _CITED if name in cited}}


def probabilities(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the log probabilities of a choice's text."""
    told = choice.get("logprobs")
    tokens = _tokens(told, "content") if isinstance(told, dict) else ()
    return [
        {**_probability(each), "top_logprobs": [*map(_probability, _tokens(each, "top_logprobs"))]} for each in tokens
    ]


def list_in(members: Mapping[str, Any], name: str) -> list[Any]:
    """Return the list that a member is; an empty one where it is something else."""
    value = members.get(name)
    return value if isinstance(value, list) else []


def _decoded(data: bytes) -> Any:
    try:
        chunk = decode(data)
    except NotJsonError:
        chunk = decode(repaired(data))
    if data.count(b"{") + data.count(b"[") > _DEEPEST and is_deeper(chunk, _DEEPEST):
        raise NotJsonError
    return chunk


def _tokens(members: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    given = [each for each in list_in(members, name) if isinstance(each, dict)]
    return [each for each in given if isinstance(each.get("token"), str) and type(each.get("logprob")) in {int, float}]


def _probability(token: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": list_in(token, "bytes")}
