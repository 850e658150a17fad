"""Make embeddings of texts: the same text has the same, of length 1, and no meaning."""

import base64
import hashlib
import math
from array import array
from collections.abc import Mapping
from typing import Any

from app.errors import InvalidRequestError
from app.wire.requests.passthrough_request import parse_passthrough_request

_MAX_DEPTH = 8
_DIMENSIONS, _MOST_DIMENSIONS = 64, 3072
_BYTES_PER_TOKEN = 4
# All vectors of an answer are made at once, and as text: a million bytes of texts would ask for gigabytes.
_MOST_NUMBERS = 1 << 18


def embeddings(raw: bytes) -> dict[str, Any]:
    """Answer a call for embeddings, in the encoding that it asks for. Raises InvalidRequestError."""
    request = parse_passthrough_request("embeddings", raw, _MAX_DEPTH)
    given = request.given
    # A list of numbers is one text, in tokens.
    is_one = isinstance(given, str) or isinstance(given[0], int)
    texts = [str(text) for text in ([given] if is_one else given)]
    if len(texts) * _size(request.fields) > _MOST_NUMBERS:
        raise InvalidRequestError(
            f"Invalid 'input': the demo model makes {_MOST_NUMBERS} numbers at once. Send fewer texts in one call.",
            code="array_above_max_length",
            param="input",
        )
    data = [
        {"object": "embedding", "index": place, "embedding": _encoded(_vector(text, request.fields), request.fields)}
        for place, text in enumerate(texts)
    ]
    used = sum(-(-len(text) // _BYTES_PER_TOKEN) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def _vector(text: str, fields: Mapping[str, Any]) -> list[float]:
    digest = hashlib.shake_256(text.encode(errors="replace")).digest(_size(fields))
    values = [byte - 127.5 for byte in digest]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]


def _size(fields: Mapping[str, Any]) -> int:
    asked = fields.get("dimensions")
    return min(asked, _MOST_DIMENSIONS) if isinstance(asked, int) and asked > 0 else _DIMENSIONS


def _encoded(vector: list[float], fields: Mapping[str, Any]) -> str | list[float]:
    if fields.get("encoding_format") == "base64":
        return base64.b64encode(array("f", vector).tobytes()).decode()
    return vector
