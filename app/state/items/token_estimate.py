"""Estimate how many tokens a text, an item or a request has: no model's vocabulary is at hand here.

English prose and code come within an eighth of what OpenAI's cl100k_base counts; other scripts go down to half of it,
to which later vocabularies come closer; text in no language, such as hashes, is at half.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError

_CHARACTERS_PER_TOKEN = 4
_PER_ITEM = 4
# An image scaled to fit 1024 x 1024 pixels, and one in low detail.
_IMAGE, _LOW_IMAGE = 765, 85
_FILE = 1000
_MEDIA = {
    "input_image": _IMAGE,
    "computer_screenshot": _IMAGE,
    "image_generation_call": _IMAGE,
    "image_url": _IMAGE,
    "input_file": _FILE,
    "input_audio": _FILE,
    "file": _FILE,
}
# Names, not content, and members for the client alone.
_INLINE = b";base64,"
_UNSEEN = frozenset({"id", "type", "call_id", "status", "annotations", "logprobs", "detail"})


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text: one for four ASCII characters, two letters of another alphabet, or one of CJK.

    Beyond ASCII that is half a token for each byte of UTF-8 that continues a character.
    """
    if text.isascii():
        return -(-len(text) // _CHARACTERS_PER_TOKEN)
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    continuing = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return -(-(len(text) - beyond) // _CHARACTERS_PER_TOKEN) + -(-continuing // 2)


def estimate_item(raw: bytes) -> int:
    """Estimate the tokens of an item, or of a run of items joined by commas."""
    return sum(_PER_ITEM + _estimate(item) for item in decode(b"[%b]" % raw))


def estimate_bytes(size: int) -> int:
    """Estimate the tokens of so many bytes of unknown text."""
    return -(-size // _CHARACTERS_PER_TOKEN)


def estimate_items(items: Iterable[bytes]) -> int:
    """Estimate the tokens of these items, or runs of them, from any source: unreadable ones count by size."""
    tokens = 0
    for raw in items:
        try:
            tokens += estimate_item(raw)
        except NotJsonError:
            tokens += estimate_bytes(len(raw))
    return tokens


def estimate_history(turns: Iterable[bytes]) -> int:
    """Estimate the tokens of the contents of turns, each a run of items.

    By size, which costs nothing, except for turns with a file or an image, whose size says nothing.
    """
    sizes, looked_into = 0, []
    for content in turns:
        if content.find(_INLINE) < 0:
            sizes += len(content)
        else:
            looked_into.append(content)
    return estimate_bytes(sizes) + estimate_items(looked_into)


def estimate_request(fields: Mapping[str, Any]) -> int:
    """Estimate the tokens of a decoded request's input, instructions, tools and format of the answer.

    Of a request that was not checked, what is of another type than it should be counts nothing.
    """
    given = fields.get("input") or []
    items = [given] if isinstance(given, str) else given
    # A number is a token of one text.
    tokens = sum(1 if type(item) is int else _PER_ITEM + _estimate(item) for item in items)
    instructions, text = fields.get("instructions"), fields.get("text")
    tokens += estimate_text(instructions) if isinstance(instructions, str) else 0
    for tools in (fields.get("tools"), fields.get("functions")):
        # A model gets the schema as it is, names and all.
        for tool in tools if isinstance(tools, list) else ():
            tokens += _PER_ITEM + estimate_text(orjson.dumps(tool).decode())
    if form := (text.get("format") if isinstance(text, Mapping) else None) or fields.get("response_format"):
        tokens += estimate_text(orjson.dumps(form).decode())
    return tokens


def _estimate(value: Any) -> int:
    if isinstance(value, str):
        return estimate_text(value)
    if isinstance(value, list):
        return sum(map(_estimate, value))
    if not isinstance(value, Mapping):
        return 1
    named = value.get("type")
    media = _MEDIA.get(named) if isinstance(named, str) else None
    if media is not None:
        return _LOW_IMAGE if media == _IMAGE and value.get("detail") == "low" else media
    return sum(_estimate(member) for name, member in value.items() if name not in _UNSEEN)
