"""Read the errors of chat servers, refused or amid an answer, and write them in OpenAI's shape and parameter names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import orjson

from app.wire.upstream_errors import ParsedError, parse_error, parse_json_error, parse_plain_error

_TOO_LONG = re.compile(
    r"maximum context length|context window|context length|input is too long|prompt is too long"
    r"|exceeds the available context size|\bn_ctx\b",
    re.IGNORECASE,
)
_NO_QUOTA = re.compile(
    r"insufficient (?:quota|balance|credits?)|exceeded your current quota|out of credits", re.IGNORECASE
)
RESPONSES_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
        "thinking": "reasoning.effort",
        "chat_template_kwargs": "reasoning.effort",
        "reasoning": "reasoning.effort",
        "verbosity": "text.verbosity",
        "functions": "tools",
    }
)
"""Maps the parameters of chat to the names that a client of the Responses API knows."""
_FUNCTION = re.compile(r"^(tools\[\d+\])\.function\b")
_TOO_MANY_REQUESTS = 429
_PAYMENT_REQUIRED = 402
# An overflow is the client's fault, whatever a server answers to it.
_OVERFLOWS = frozenset({None, 400, 413, 422, 500})
_OUR_STATUSES: Mapping[int, int] = MappingProxyType({422: 400})
_UNKNOWN = ParsedError("The upstream's stream reported an error.", "server_error")


@dataclass(frozen=True, slots=True)
class ChatError(ParsedError):
    """Hold the error of a chat server in our words; its `status` is that of the answer, in which it is passed on."""

    status: int = HTTPStatus.BAD_GATEWAY

    def body_under_success(self) -> bytes:
        """Write the error with its status, which is read back from there: the head of the answer is a success's."""
        return orjson.dumps({"error": {**self.members(self.status), "status": self.status}})


def refused(status: int, body: bytes) -> tuple[int, bytes]:
    """Return the status and body in which the error answer of a chat server is passed on."""
    parsed = parse_json_error(body) or parse_plain_error(body)
    if parsed is None:
        return _OUR_STATUSES.get(status, status), body
    error = _in_our_words(parsed, status)
    return error.status, error.body(error.status)


def amid(chunk: Any) -> ChatError | None:
    """Return the error that a chunk or a whole answer reports in place of a completion, in our words; None for none."""
    if isinstance(chunk, dict):
        is_error = bool(chunk.get("error")) or chunk.get("object") == "error"
        if not is_error and not isinstance(chunk.get("choices"), list):
            is_error = any(name in chunk for name in ("detail", "message", "errors"))
        if not is_error:
            return None
    return _in_our_words(parse_error(chunk) or _UNKNOWN)


def _in_our_words(parsed: ParsedError, status: int | None = None) -> ChatError:
    status = status or parsed.status
    code, param = parsed.code, parsed.param
    if _TOO_LONG.search(parsed.message) and status in _OVERFLOWS:
        code, param, status = "context_length_exceeded", "input", HTTPStatus.BAD_REQUEST
    elif status == _PAYMENT_REQUIRED or (status == _TOO_MANY_REQUESTS and _NO_QUOTA.search(parsed.message)):
        code = "insufficient_quota"
    elif status == _TOO_MANY_REQUESTS and code is None:
        code = "rate_limit_exceeded"
    if param is not None:
        param = _FUNCTION.sub(r"\1", RESPONSES_NAMES.get(param, param))
    status = status or HTTPStatus.BAD_GATEWAY
    return ChatError(parsed.message, code, parsed.type, param, _OUR_STATUSES.get(status, status))
