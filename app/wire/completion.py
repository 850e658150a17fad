"""Read what the gateway acts on in a chat completion, whole or as a frame of a stream: its usage, its error, its end.

Nothing is rewritten, and an ordinary frame is not decoded.
"""

import re
from typing import Any, NamedTuple

import msgspec
import orjson

from app.wire import sse
from app.wire.completion_usage import as_usage, usage_in
from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError

_DONE = b"[DONE]"
_USAGE_NAME, _ERROR_NAME = b'"usage"', b'"error"'
_EVENT, _ERROR_KIND, _ERROR = b"event:", b"error", "error"
# A quote within a string is escaped: none of these begins in one. `"usage": null` stands in each frame of some servers.
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
# Some servers say an empty reason in each frame.
_ENDED = re.compile(rb'"finish_reason"\s*:\s*"(?!")')
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"')
_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|thinking|refusal|arguments|text|input)"\s*:\s*"((?:[^"\\]++|\\.)*+)"'
)


class CompletionFacts(NamedTuple):
    """Hold what an answer says of itself. `usage` is that of a response.

    `text_bytes` is the length of its texts, where the usage counts no output.
    """

    model: str | None = None
    service_tier: str | None = None
    usage: dict[str, Any] | None = None
    text_bytes: int = 0


def facts(body: bytes) -> CompletionFacts:
    """Read a whole answer; nothing where it is no object."""
    try:
        document = decode(body)
    except NotJsonError:
        return CompletionFacts()
    return _facts_of(document, body) if isinstance(document, dict) else CompletionFacts()


def facts_of_ends(ends: bytes) -> CompletionFacts:
    """Read the first and the last bytes of an answer, of which the middle is not at hand."""
    model = _MODEL.search(ends)
    found: dict[str, Any] = {}
    for place in _USAGE.finditer(ends):
        try:
            found = {"usage": msgspec.json.Decoder(type=dict).decode(_object_at(ends, place.end()))}
        except msgspec.DecodeError:
            continue
    return CompletionFacts(model[1].decode(errors="replace") if model else None, usage=_usage_of(found))


def is_ordinary(frame: bytes) -> bool:
    """Tell whether the frame is a part of an answer: no usage, no error and no mark of the end."""
    if frame.find(_DONE) >= 0 or frame.find(_ERROR_NAME) >= 0 or _is_error_event(frame):
        return False
    return frame.find(_USAGE_NAME) < 0 or _USAGE.search(frame) is None


def is_done(frame: bytes) -> bool:
    """Tell whether the frame is the mark that ends a stream."""
    return frame.find(_DONE) >= 0 and sse.event_data(frame).strip() == _DONE


def payload(frame: bytes) -> dict[str, Any]:
    """Decode the data of a frame; nothing where it is no object."""
    try:
        document = orjson.loads(sse.event_data(frame))
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def is_error(frame: bytes, chunk: dict[str, Any]) -> bool:
    """Tell whether a frame with this chunk reports an error, in whichever shape; `"error": null` is none."""
    return bool(chunk.get("error")) or _ERROR in (chunk.get("object"), chunk.get("type")) or _is_error_event(frame)


def facts_of_frame(chunk: dict[str, Any]) -> CompletionFacts:
    """Read what a chunk of a stream says of its answer."""
    return _facts_of(chunk, b"")


def is_usage_alone(chunk: dict[str, Any]) -> bool:
    """Tell whether a chunk was only sent because the usage was asked for."""
    return not chunk.get("choices") and isinstance(chunk.get("usage"), dict)


def model_in(frame: bytes) -> str | None:
    """Return the model that a frame names."""
    found = _MODEL.search(frame)
    return None if found is None else found[1].decode("utf-8", "replace")


def ended_in(frame: bytes) -> int:
    """Return of how many answers the frame says why they end."""
    return len(_ENDED.findall(frame))


def text_bytes(raw: bytes) -> int:
    """Return how many bytes of text a frame or an answer has."""
    return sum(map(len, _TEXT.findall(raw)))


def _is_error_event(frame: bytes) -> bool:
    return frame.find(_EVENT) >= 0 and sse.event_name(frame) == _ERROR_KIND


def _facts_of(document: dict[str, Any], body: bytes) -> CompletionFacts:
    model, tier = document.get("model"), document.get("service_tier")
    usage = _usage_of(document)
    return CompletionFacts(
        model if isinstance(model, str) else None,
        tier if isinstance(tier, str) else None,
        usage,
        0 if usage is not None and usage["output_tokens"] else text_bytes(body),
    )


def _usage_of(document: dict[str, Any]) -> dict[str, Any] | None:
    said, counted = usage_in(document), document.get("usage")
    if said is None and "choices" not in document and isinstance(counted, dict):
        # A server that embeds may count all tokens in one number.
        said = usage_in({"usage": {"prompt_tokens": counted.get("total_tokens")}})
    usage = as_usage(said, 0, 0)
    return None if "estimated" in usage else usage


def _object_at(text: bytes, place: int) -> bytes:
    """Cut out the object that begins here; its strings have no braces, as those of a usage have none."""
    depth = 0
    for end in range(place, len(text)):
        depth += (text[end] == ord("{")) - (text[end] == ord("}"))
        if depth == 0:
            return text[place : end + 1]
    return b""
