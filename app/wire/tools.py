"""Show a request's tools in a response object: complete, and without the secrets that a client gave them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import orjson

from app.wire.body import Json, elements, join_array, join_object, members

TOOL_LISTS = frozenset({"additional_tools", "tool_search_output"})
"""The types of items that bring tools of their own."""

_REDACTED = "<redacted>"
_REDACTED_BYTES = _REDACTED.encode()

# Members that authenticate, by their letters alone: vendors spell them with dashes, underscores and capitals.
_SECRETS = frozenset(
    {
        *("authorization", "authorizationtoken", "headers", "extraheaders", "cookies", "domainsecrets"),
        *("apikey", "accesstoken", "token", "secret", "clientsecret", "password", "credentials"),
    }
)
_NO_LETTER = re.compile(r"[^a-z]")
# Schemas, grammars and filters are the model's: a property in them may have any name.
_OPEN = frozenset({"parameters", "output_schema", "input_schema", "format", "filters"})
_NO_SECRETS = frozenset({"function", "custom"})
# A response object has these of a tool, also where the request left them out.
_REQUIRED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"function": MappingProxyType({"parameters": None, "strict": None})}
)
# A header that authenticates. Others (a media type, a tenant) are words that an answer may have as well.
_AUTHENTICATES = re.compile(r"auth|key|token|secret|cookie|passw|credential", re.IGNORECASE)
_SCHEMES = re.compile(r"(?:basic|bearer|token)\s+", re.IGNORECASE)
# Shorter ones are not looked for in text: they may be parts of words.
_SHORTEST_SECRET = 8


def shown(tools: Iterable[Any]) -> list[Any]:
    """The tools as a response object has them."""
    return [_complete(without_secrets(tool)) for tool in tools]


def without_secrets(value: Any) -> Any:
    """A tool, or a choice of tools, without what authenticates; of the URL of a server only the origin."""
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
    """What the tools of one request authenticate with. `texts` finds, in JSON, those that can be told from words."""

    texts: re.Pattern[bytes] | None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self | None:
        """The secrets of this request's tools; None where they have none."""
        given = fields.get("tools")
        tools = [tool for tool in given if tool["type"] not in _NO_SECRETS] if given else ()
        if not tools or without_secrets(tools) == tools:
            return None
        # The longest first: one may begin like another.
        found = sorted({_SCHEMES.sub("", text, count=1) for text in _secrets_in(tools)}, key=len, reverse=True)
        told = b"|".join([re.escape(text.encode()) for text in found if _is_findable(text)])
        # Behind a backslash the first letter is none of the text's.
        return cls(re.compile(rb"(?<!\\)(?:%b)" % told) if told else None)

    def hidden(self, text: bytes) -> bytes:
        """The text without these secrets."""
        return self.texts.sub(_REDACTED_BYTES, text) if self.texts else text

    def hidden_in(self, response: bytes) -> bytes:
        """A response object without these secrets, wherever they stand, and without all that authenticates its tools.

        What is no object loses the secrets alone. All else keeps its bytes.
        """
        response = self.hidden(response)
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
    """The scheme and the host of a URL: its path and query may be what authenticates, too."""
    if not isinstance(url, str):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return _REDACTED
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return url if url in {origin, f"{origin}/"} else f"{origin}/{_REDACTED}"


def _secrets_in(value: Any) -> Iterator[str]:
    """The texts that these tools authenticate with."""
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
    """The texts that authenticate in this member: a header by its name, the secret of a domain by being its value."""
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
    """Whether this can be taken out of JSON without harm to it: no number, and spelled there in one way."""
    return (
        len(text) >= _SHORTEST_SECRET
        and not text.replace(".", "").isdecimal()
        and orjson.dumps(text)[1:-1] == text.encode(errors="replace")
    )
