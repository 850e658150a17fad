"""Parse an upstream's error of any public shape, so that its message, code and status reach the client in OpenAI's."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import orjson

from app.wire.json.repair import repaired

# A longer plain text is a page, not a sentence.
_LONGEST_MESSAGE = 4096
_LONGEST_NAME = 256
_DEEPEST = 4
_STATUSES = range(400, 600)
_MESSAGE_NAMES = ("message", "msg", "detail", "error_description", "error", "description", "title", "reason")
_UNPROCESSABLE = 422
_BAD_REQUEST = 400
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_STATUS = 500
_LIMITED, _SERVER_ERROR = "rate_limit_exceeded", "server_error"

QUOTA_SPENT = frozenset({"insufficient_quota", "credit_balance_exhausted"})
"""The codes and types of a limit that no wait lifts."""
# The codes that the error of a response may have.
_ERROR_CODES = frozenset(
    {
        "bio_policy",
        "data_residency_mismatch",
        "empty_image_file",
        "failed_to_download_image",
        "image_content_policy_violation",
        "image_file_not_found",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "invalid_base64_image",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "invalid_image_url",
        "invalid_prompt",
        "misalignment_policy_violation",
        "rate_limit_exceeded",
        "server_error",
        "unsupported_image_media_type",
        "vector_store_timeout",
    }
)
# The status of a code or a type that comes without one. Codes are compared in lower case.
_STATUS_OF: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "rate_limit_exceeded",
                "rate_limit_error",
                "rate_limited",
                "rate_limit",
                "too_many_requests",
                "resource_exhausted",
                "throttlingexception",
                "requests",
                "tokens",
                "insufficient_quota",
                "quota_exceeded",
                "credit_balance_exhausted",
                "billing_hard_limit_reached",
                "usage_limit_reached",
            ),
            429,
        ),
        **dict.fromkeys(("invalid_api_key", "authentication_error", "unauthenticated", "unauthorized"), 401),
        **dict.fromkeys(("permission_error", "permission_denied"), 403),
        **dict.fromkeys(("not_found_error", "not_found", "model_not_found"), 404),
        **dict.fromkeys(
            ("server_is_overloaded", "overloaded_error", "overloaded", "slow_down", "unavailable", "engine_overloaded"),
            503,
        ),
        **dict.fromkeys(("server_error", "internal_error", "internal_server_error", "internal", "api_error"), 500),
        **dict.fromkeys(
            (
                "invalid_request_error",
                "invalid_request",
                "invalid_argument",
                "invalid-argument",
                "invalid_prompt",
                "context_length_exceeded",
                "string_above_max_length",
                "bad_request",
                "badrequesterror",
                "bad_request_error",
                "value_error",
                "content_filter",
                "content_policy_violation",
            ),
            400,
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ParsedError:
    """Hold the error that an upstream reported. `status` is the HTTP status that its code or text implies, if any."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None

    def body(self, status: int) -> bytes:
        """Write the error as an answer in OpenAI's shape."""
        return orjson.dumps({"error": self.members(status)})

    def members(self, status: int) -> dict[str, str | None]:
        """Return the members of OpenAI's shape; without a type of its own the error has the status's."""
        implied = _SERVER_ERROR if status >= _FIRST_SERVER_STATUS else "invalid_request_error"
        kind = self.type or ("rate_limit_error" if status == _TOO_MANY_REQUESTS else implied)
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}


def parse_json_error(body: bytes) -> ParsedError | None:
    """Parse the error in a JSON body; None for a body that reports none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            value = orjson.loads(repaired(body))
        except orjson.JSONDecodeError:
            return None
    return parse_error(value) if isinstance(value, dict | list) else None


def parse_plain_error(body: bytes) -> ParsedError | None:
    """Parse an error that is one plain sentence; None for HTML and for unprintable text."""
    text = _shortened(body.decode(errors="replace").strip())
    if not text or text.startswith(("<", "{", "[")) or not text.replace("\n", " ").replace("\t", " ").isprintable():
        return None
    return ParsedError(text)


def parse_error(value: Any, depth: int = 0) -> ParsedError | None:
    """Parse the error in a decoded value.

    The shapes are OpenAI's; an error within an error, a list of errors (Gemini's, `errors`), a text with a code beside
    it (xAI), FastAPI's `detail` as a text or a list, and `message` alone.
    """
    if isinstance(value, str):
        text = _shortened(value)
        return ParsedError(text) if text.strip() else None
    if not isinstance(value, dict | list) or depth >= _DEEPEST:
        return None
    if isinstance(value, list):
        return _first_of(value, depth)
    # A text beside a message is the name of the status, as frameworks write it.
    nested = [each for each in (value.get("error"), value.get("errors")) if isinstance(each, dict | list)]
    for each in (*nested, *map(value.get, _MESSAGE_NAMES)):
        parsed = parse_error(each, depth + 1)
        if parsed is not None:
            return _completed(parsed, value)
    return None


def _shortened(text: str) -> str:
    """Cut a text that is longer than a message, and leave out the word at the cut.

    Half a key in that word would be redacted by nobody.
    """
    if len(text) <= _LONGEST_MESSAGE:
        return text
    words = text[:_LONGEST_MESSAGE].rsplit(maxsplit=1)
    return words[0] if len(words) > 1 else ""


def _first_of(value: list[Any], depth: int) -> ParsedError | None:
    found = [parsed for parsed in (parse_error(each, depth + 1) for each in value[:_DEEPEST]) if parsed is not None]
    return found[0] if found else None


def _completed(parsed: ParsedError, value: Mapping[str, Any]) -> ParsedError:
    """Add the code, the type and the status that stand beside the message."""
    if isinstance(value.get("loc"), list):
        # FastAPI's: its `type` names the validator, not the error.
        return replace(parsed, param=parsed.param or _place(value["loc"]), status=parsed.status or _UNPROCESSABLE)
    name = _text(value.get("status"))
    code = (
        parsed.code or _text(value.get("code")) or (name if name is not None and name.lower() in _STATUS_OF else None)
    )
    kind = _text(value.get("type"))
    if kind == "error" or (kind is not None and kind.startswith("response.")):
        # An event's type says what the event is.
        kind = None
    kind = parsed.type or kind
    statuses = (_status(value.get(name)) for name in ("code", "status", "status_code"))
    implied = (_STATUS_OF.get(name.lower()) for name in (code, kind) if name is not None)
    status = parsed.status or next((number for number in (*statuses, *implied) if number is not None), None)
    return ParsedError(parsed.message, code, kind, parsed.param or _text(value.get("param")), status)


def _place(place: list[Any]) -> str | None:
    """Write the member that FastAPI's `loc` names as OpenAI spells it."""
    named = [each for each in place[:_LONGEST_NAME] if type(each) is int or (isinstance(each, str) and each != "body")]
    return _text("".join([f".{each}" if isinstance(each, str) else f"[{each}]" for each in named]).removeprefix("."))


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:  # noqa: PLR2004 - the digits of a status
        value = int(value)
    return value if type(value) is int and value in _STATUSES else None


def _text(value: Any) -> str | None:
    """Return a short text; None for a number, which is a status, and for anything else."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and not value.isdecimal() else None


def response_error(parsed: ParsedError) -> dict[str, str]:
    """Convert an upstream's error to the `error` of a response, which has few codes: others go into the message.

    A limit becomes a `rate_limit_exceeded`, the client's fault an `invalid_prompt`, all else a `server_error`; so does
    a spent quota, which no wait brings back.
    """
    if parsed.code in _ERROR_CODES:
        return {"code": parsed.code, "message": parsed.message}
    code = "invalid_prompt" if parsed.status == _BAD_REQUEST else _SERVER_ERROR
    if parsed.status == _TOO_MANY_REQUESTS and QUOTA_SPENT.isdisjoint((parsed.code, parsed.type)):
        code = _LIMITED
    return {"code": code, "message": f"{parsed.message} ({parsed.code})" if parsed.code else parsed.message}
