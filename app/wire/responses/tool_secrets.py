"""Redact the secrets in a request's tools, for response objects, stored items and errors."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import orjson

from app.wire.json_body import Json, elements, join_array, join_object, members

TOOL_LISTS = frozenset({"additional_tools", "tool_search_output"})
"""The types of items that bring tools of their own."""

_REDACTED = "<redacted>"
_REDACTED_BYTES = _REDACTED.encode()

# Members that hold secrets, by their letters alone: vendors spell them with dashes, underscores and capitals.
_SECRETS = frozenset(
    {
        *("authorization", "authorizationtoken", "headers", "extraheaders", "cookies", "domainsecrets"),
        *("apikey", "accesstoken", "token", "secret", "clientsecret", "password", "credentials"),
    }
)
_NO_LETTER = re.compile(r"[^a-z]")
# In schemas, grammars and filters a property may have any name.
_OPEN = frozenset({"parameters", "output_schema", "input_schema", "format", "filters"})
_NO_SECRETS = frozenset({"function", "custom"})
# A response object has these of a tool, also where the request left them out.
_REQUIRED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"function": MappingProxyType({"parameters": None, "strict": None})}
)
# A header that authenticates. The values of others (a media type, a tenant) may stand in any answer.
_AUTHENTICATES = re.compile(r"auth|key|token|secret|cookie|passw|credential", re.IGNORECASE)
_SCHEMES = re.compile(r"(?:basic|bearer|token)\s+", re.IGNORECASE)
# Shorter secrets are not searched for in text: they may be parts of words.
_SHORTEST_SECRET = 8


def tools_for_response(tools: Iterable[Any]) -> list[Any]:
    """Make the tools of a response object: without secrets, with the members that it requires."""
    return [_complete(without_secrets(tool)) for tool in tools]


def without_secrets(value: Any) -> Any:
    """Redact a tool, or a choice of tools: drop members that authenticate, and all but the origin of a server's URL."""
    if isinstance(value, list):
        return [without_secrets(element) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        name: member if name in _OPEN else _origin(member) if name == "server_url" else without_secrets(member)
        for name, member in value.items()
        if not _is_secret(name)
    }


@dataclass(frozen=True, slots=True)
class ToolSecrets:
    """Find the secrets of one request's tools in JSON. `texts` matches those that cannot be mistaken for words."""

    texts: re.Pattern[bytes] | None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self | None:
        """Collect the secrets of this request's tools; None where they have none."""
        given = fields.get("tools")
        tools = [tool for tool in given if tool["type"] not in _NO_SECRETS] if given else ()
        if not tools or without_secrets(tools) == tools:
            return None
        # The longest first: one may begin like another.
        found = sorted({_SCHEMES.sub("", text, count=1) for text in _secrets_in(tools)}, key=len, reverse=True)
        pattern = b"|".join([re.escape(text.encode()) for text in found if _is_findable(text)])
        # A letter behind a backslash is an escape, not part of a secret.
        return cls(re.compile(rb"(?<!\\)(?:%b)" % pattern) if pattern else None)

    def redacted(self, text: bytes) -> bytes:
        """Redact these secrets in a text."""
        return self.texts.sub(_REDACTED_BYTES, text) if self.texts else text

    def redacted_in(self, response: bytes) -> bytes:
        """Redact these secrets in a response object, wherever they stand, and drop the secret members of its tools.

        In what is no object only the secrets are redacted. All else keeps its bytes.
        """
        response = self.redacted(response)
        try:
            parts = members(response)
            if "tools" not in parts:
                return response
            tools = [_raw_without_secrets(tool) for tool in elements(parts["tools"])]
        except (msgspec.DecodeError, orjson.JSONDecodeError, RecursionError):
            return response
        return join_object({**parts, "tools": Json(join_array(tools))})


def _raw_without_secrets(raw: bytes) -> bytes:
    tool = orjson.loads(raw)
    shown_tool = without_secrets(tool)
    return raw if shown_tool == tool else orjson.dumps(shown_tool)


def _complete(tool: Any) -> Any:
    return {**_REQUIRED.get(tool["type"], {}), **tool}


def _is_secret(name: str) -> bool:
    return _NO_LETTER.sub("", name.lower()) in _SECRETS


def _origin(url: Any) -> Any:
    """Return the scheme and the host of a URL: its path and query may authenticate, too."""
    if not isinstance(url, str):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return _REDACTED
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return url if url in {origin, f"{origin}/"} else f"{origin}/{_REDACTED}"


def _secrets_in(value: Any) -> Iterator[str]:
    """Find the texts in these tools that authenticate."""
    if isinstance(value, list):
        for element in value:
            yield from _secrets_in(element)
    elif isinstance(value, dict):
        for name, member in value.items():
            if _is_secret(name):
                yield from _texts(name, member)
            elif name not in _OPEN:
                yield from _secrets_in(member)


def _texts(name: str, value: Any) -> Iterator[str]:
    """Find the texts in this member that authenticate: headers by name, and always the `value` of a domain's secret."""
    if isinstance(value, str):
        if name == "value" or _AUTHENTICATES.search(name):
            yield value
    elif isinstance(value, list):
        for element in value:
            yield from _texts(name, element)
    elif isinstance(value, dict):
        for inner, member in value.items():
            yield from _texts(inner, member)


def _is_findable(text: str) -> bool:
    """Tell whether this can be redacted in JSON without harm: it is no number, and spelled there in one way."""
    return (
        len(text) >= _SHORTEST_SECRET
        and not text.replace(".", "").isdecimal()
        and orjson.dumps(text)[1:-1] == text.encode(errors="replace")
    )
