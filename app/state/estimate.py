"""How many tokens a text, an item or a request has, by estimate: no model's vocabulary is at hand here.

English prose and code come within an eighth of what OpenAI's cl100k_base counts; other scripts go down to half of it,
to which later vocabularies come closer; text in no language, such as hashes, is at half.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from app.wire.slices import decode
from app.wire.tokens import NotJsonError

_CHARACTERS_PER_TOKEN = 4
_PER_ITEM = 4
# An image scaled to fit 1024 x 1024 pixels, and one in low detail.
_IMAGE, _LOW_IMAGE = 765, 85
_FILE = 1000
_MEDIA = {
    "input_image": _IMAGE,
    "computer_screenshot": _IMAGE,
    "image_generation_call": _IMAGE,
    "input_file": _FILE,
    "input_audio": _FILE,
}
# Names, not content, and what only a client is told.
_INLINE = b";base64,"
_UNSEEN = frozenset({"id", "type", "call_id", "status", "annotations", "logprobs", "detail"})


def estimate_text(text: str) -> int:
    """The tokens of a text: four ASCII characters make one, as do two letters of an alphabet beyond it, or one of CJK.

    Beyond ASCII that is half a token for each byte of UTF-8 that continues a character.
    """
    if text.isascii():
        return -(-len(text) // _CHARACTERS_PER_TOKEN)
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    continuing = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return -(-(len(text) - beyond) // _CHARACTERS_PER_TOKEN) + -(-continuing // 2)


def estimate_item(raw: bytes) -> int:
    """The tokens of an item, or of a run of items joined by commas."""
    return sum(_PER_ITEM + _estimate(item) for item in decode(b"[%b]" % raw))


def estimate_bytes(size: int) -> int:
    """The tokens of so many bytes of text, of which nothing else is known."""
    return -(-size // _CHARACTERS_PER_TOKEN)


def estimate_items(items: Iterable[bytes]) -> int:
    """The tokens of these items, or runs of them, whoever made them: what cannot be read counts by its size."""
    tokens = 0
    for raw in items:
        try:
            tokens += estimate_item(raw)
        except NotJsonError:
            tokens += estimate_bytes(len(raw))
    return tokens


def estimate_history(turns: Iterable[bytes]) -> int:
    """The tokens of the contents of turns, each a run of items.

    By their size, which costs nothing; but for those with a file or an image in them, whose size says nothing.
    """
    sizes, looked_into = 0, []
    for content in turns:
        if content.find(_INLINE) < 0:
            sizes += len(content)
        else:
            looked_into.append(content)
    return estimate_bytes(sizes) + estimate_items(looked_into)


def estimate_request(fields: Mapping[str, Any]) -> int:
    """The tokens of a decoded request's input, instructions, tools and text format."""
    given = fields.get("input") or []
    items = [given] if isinstance(given, str) else given
    tokens = sum(_PER_ITEM + _estimate(item) for item in items)
    tokens += estimate_text(fields.get("instructions") or "")
    for tool in fields.get("tools") or []:
        # A model is shown a schema as it is, names and all.
        tokens += _PER_ITEM + estimate_text(orjson.dumps(tool).decode())
    if form := (fields.get("text") or {}).get("format"):
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
