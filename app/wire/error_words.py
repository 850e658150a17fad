"""Read an error in any public shape, so that its words, its code and its status reach the client in OpenAI's."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import orjson

from app.wire.mending import mended

# Of what a server says in plain text: more than this is a page, not a sentence.
_LONGEST_MESSAGE = 4096
_LONGEST_NAME = 256
_DEEPEST = 4
_STATUSES = range(400, 600)
_MESSAGE_NAMES = ("message", "msg", "detail", "error_description", "error", "description", "title", "reason")
_UNPROCESSABLE = 422
_BAD_REQUEST = 400
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
# What a code or a type means where no status goes with it. Codes are compared in lower case.
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
class ErrorWords:
    """What a server said went wrong. `status` is the HTTP status that its words stand for, where they tell one."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None

    def body(self, status: int) -> bytes:
        """The error as an answer in OpenAI's shape; its type is the status's where it has none."""
        kind = self.type or ("server_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004 - 5xx
        return orjson.dumps({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})


def read_words(body: bytes) -> ErrorWords | None:
    """Read the error that a body in JSON tells; None for a body that tells none."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            said = orjson.loads(mended(body))
        except orjson.JSONDecodeError:
            return None
    return words_of(said) if isinstance(said, dict | list) else None


def plain_words(body: bytes) -> ErrorWords | None:
    """Read an error that is one plain sentence; None for a page of HTML and for what nobody could read."""
    text = body[:_LONGEST_MESSAGE].decode(errors="replace").strip()
    if not text or text.startswith(("<", "{", "[")) or not text.replace("\n", " ").replace("\t", " ").isprintable():
        return None
    return ErrorWords(text)


def words_of(said: Any, depth: int = 0) -> ErrorWords | None:
    """Read the error in a decoded value.

    The shapes are OpenAI's; an error within an error, a list of them (Gemini's, `errors`), a text with a code beside it
    (xAI), FastAPI's `detail` as a text or a list, and `message` alone.
    """
    if isinstance(said, str):
        return ErrorWords(said[:_LONGEST_MESSAGE]) if said.strip() else None
    if isinstance(said, list):
        return _first_of(said, depth)
    if not isinstance(said, dict) or depth >= _DEEPEST:
        return None
    # A text beside a message is the name of the status, as frameworks write it.
    contained = [each for each in (said.get("error"), said.get("errors")) if isinstance(each, dict | list)]
    for each in (*contained, *map(said.get, _MESSAGE_NAMES)):
        words = words_of(each, depth + 1)
        if words is not None:
            return _completed(words, said)
    return None


def _first_of(said: list[Any], depth: int) -> ErrorWords | None:
    found = [words for words in (words_of(each, depth + 1) for each in said[:_DEEPEST]) if words is not None]
    return found[0] if found else None


def _completed(words: ErrorWords, said: Mapping[str, Any]) -> ErrorWords:
    """The words with the code, the type and the status that stand beside them."""
    if isinstance(said.get("loc"), list):
        # FastAPI's: its `type` is of the validator, and not of the error.
        return replace(words, param=words.param or _place(said["loc"]), status=words.status or _UNPROCESSABLE)
    name = _text(said.get("status"))
    code = words.code or _text(said.get("code")) or (name if name is not None and name.lower() in _STATUS_OF else None)
    kind = _text(said.get("type"))
    if kind == "error" or (kind is not None and kind.startswith("response.")):
        # An event's type says what the event is.
        kind = None
    kind = words.type or kind
    told = (_status(said.get(name)) for name in ("code", "status", "status_code"))
    meant = (_STATUS_OF.get(name.lower()) for name in (code, kind) if name is not None)
    status = words.status or next((number for number in (*told, *meant) if number is not None), None)
    return ErrorWords(words.message, code, kind, words.param or _text(said.get("param")), status)


def _place(place: list[Any]) -> str | None:
    """The member that FastAPI's `loc` names, as OpenAI spells it."""
    names = [f"[{each}]" if isinstance(each, int) else f".{each}" for each in place if each != "body"]
    return "".join(names).removeprefix(".") or None


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:  # noqa: PLR2004 - the digits of a status
        value = int(value)
    return value if type(value) is int and value in _STATUSES else None


def _text(value: Any) -> str | None:
    """A short text that is no number: a number is a status, and says so in its place."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and not value.isdecimal() else None


def response_error(words: ErrorWords) -> dict[str, str]:
    """What upstream said went wrong, as the error of a response: of its codes there are few, so others are in the text.

    The client's fault is an `invalid_prompt` there, everybody else's a `server_error`.
    """
    if words.code in _ERROR_CODES:
        return {"code": words.code, "message": words.message}
    code = "invalid_prompt" if words.status == _BAD_REQUEST else "server_error"
    return {"code": code, "message": f"{words.message} ({words.code})" if words.code else words.message}
