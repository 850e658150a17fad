"""The error answers of all calls by their status: when each comes, in OpenAI's envelope."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.api.openapi.operation import ref

DEFAULT = "default"
"""In place of a status: upstream's own error, with whatever status it has."""

EVERY_CALL = (401, 403, 429, 431, 500, 503)
"""Names the errors that any call with a key may get."""

OF_BODIES = (400, 408, 413, 415)
"""Names those that a call with a body may get beside them."""

_RETRY = "Seconds to wait, where it is known."
_NAMES: Mapping[int | str, tuple[str, str]] = MappingProxyType(
    {
        400: ("BadRequest", "A parameter is missing, unknown or invalid: `param` names it, `code` says why."),
        401: ("Unauthorized", "No API key, or one that is wrong, revoked, blocked or expired."),
        403: ("Forbidden", "The key has not the scope that the call asks for, or may not be used from this address."),
        404: ("NotFound", "There is no such thing, or it is another project's: the two get the same answer."),
        408: ("RequestTimeout", "The body came too slowly."),
        409: (
            "Conflict",
            "Changed by somebody else meanwhile, there already, or an `Idempotency-Key` of another call.",
        ),
        413: ("RequestTooLarge", "The body is larger than the gateway takes."),
        415: ("UnsupportedMediaType", "The body is no JSON, or is compressed in a way that is not known."),
        429: (
            "TooManyRequests",
            "A limit of the key or project is used up, all upstream keys rest, or wrong keys came from this address.",
        ),
        431: ("HeadersTooLarge", "More than 128 headers or 64 KB of them."),
        500: ("ServerError", "The gateway failed. Its log has the request id."),
        502: ("UpstreamFailed", "Upstream could not be reached, or what it answered cannot be used."),
        503: ("Unavailable", "The gateway starts, stops or is full, or its database cannot be used. Ask again."),
        504: ("UpstreamTimeout", "Upstream did not answer in time."),
        DEFAULT: ("UpstreamError", "Upstream's own error with its own status, its words in this envelope."),
    }
)


def components() -> dict[str, dict[str, Any]]:
    """Each answer by its name."""
    return {name: _answer(status, description) for status, (name, description) in _NAMES.items()}


def error(status: int | str) -> dict[str, str]:
    """A reference to the answer of this status, or to that of upstream's errors."""
    return {"$ref": f"#/components/responses/{_NAMES[status][0]}"}


def _answer(status: int | str, description: str) -> dict[str, Any]:
    source = {"description": "Who refused.", "schema": {"enum": ["gateway", "upstream"]}}
    headers: dict[str, Any] = {"x-request-id": dict(REQUEST_ID), "x-antiphon-error-source": source}
    if status in {429, 503, DEFAULT}:
        headers["retry-after"] = {"description": _RETRY, "schema": {"type": "string"}}
    return {"description": description, "headers": headers, "content": {"application/json": {"schema": ref("Error")}}}


REQUEST_ID: Mapping[str, Any] = MappingProxyType(
    {"description": "Names this call in the gateway's log.", "schema": {"type": "string"}}
)
"""The header that every answer has."""
