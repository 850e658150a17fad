"""Tell from an error's text that one request exceeds the whole limit, so that no wait makes it fit.

OpenAI, Groq and others answer such a request with 429 and the code of a rate limit: only the text differs.
"""

import re

from app.wire.upstream_errors import ParsedError

# Codes and types, in lower case.
_NAMES = frozenset(
    {
        "context_length_exceeded",
        "max_tokens_per_request",
        "payload_too_large",
        "request_too_large",
        "string_above_max_length",
        "tokens_limit_reached",
    }
)
_SAID = re.compile(
    r"\b(?:request|prompt|input|message|payload)(?: (?:body|size|length))?(?: (?:is|was))? too (?:large|long|big)\b"
    r"|\btokens must be reduced\b"
    r"|\b(?:single|one) request (?:exceeds|is (?:larger|greater|bigger) than)\b"
    r"|\b(?:larger|greater|bigger) than (?:the|your|its) (?:whole |entire )?(?:rate )?limit\b",
    re.IGNORECASE,
)
# "Limit 30000, Requested 40000": how large the limit is, and what of it the request would take.
_NUMBER = r"\W{1,3}(\d[\d,_]{0,18})"
_LIMIT, _REQUESTED = (re.compile(rf"\b{name}{_NUMBER}", re.IGNORECASE) for name in ("limit", "requested"))
_LONGEST_TEXT = 4096


def is_oversized(parsed: ParsedError) -> bool:
    """Tell whether this error of a limit means that the request would not fit an unused limit either."""
    if any(name is not None and name.lower() in _NAMES for name in (parsed.code, parsed.type)):
        return True
    text = parsed.message[:_LONGEST_TEXT]
    return _SAID.search(text) is not None or _asks_more_than_there_is(text)


def _asks_more_than_there_is(text: str) -> bool:
    limit, requested = _LIMIT.search(text), _REQUESTED.search(text)
    return limit is not None and requested is not None and _number(requested) > _number(limit)


def _number(found: re.Match[str]) -> int:
    return int(found[1].replace(",", "").replace("_", ""))
