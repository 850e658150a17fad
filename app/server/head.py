"""The head of a request, and how one that is sent again is known without being parsed. Must not know who asks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

import httptools

Headers = list[tuple[bytes, bytes]]

# A head is kept for each connection. Those of SDKs take some 1,000 bytes.
_LONGEST_REMEMBERED = 4096
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
# What makes of a request another thing than a head and a body of the length that it tells.
_SPECIAL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"connection"})
_HARMLESS = (b"connection", b"keep-alive")
_H2C = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)
# No body is that long, and no shorter number overflows.
_MOST_DIGITS = 15


@dataclass(slots=True)
class Head:
    """What a request says before its body. `headers` are in their order, with names in lower case.

    `text` has the same as text, of a repeated name the first value. Neither is to be changed.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    http_version: str
    headers: Headers
    text: Mapping[str, str]
    keeps_alive: bool

    @classmethod
    def read(cls, method: bytes, url: bytes, http_version: str, headers: Headers, *, keeps_alive: bool) -> Self:
        """A head of these parts, as the parser gives them. Raises httptools.HttpParserInvalidURLError."""
        parsed = httptools.parse_url(url)
        path = parsed.path.decode("ascii")
        return cls(
            method=method.decode("ascii"),
            path=unquote(path) if "%" in path else path,
            raw_path=parsed.path,
            query=parsed.query or b"",
            http_version=http_version,
            headers=headers,
            text={name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(headers)},
            keeps_alive=keeps_alive,
        )


class RememberedHead:
    """A head of which the next may be a repetition, as nearly all are that an SDK sends on one connection.

    Invariant: what it recognises differs from the bytes that were parsed in the digits of the body's length alone. So
    the parser would find in it just what it found then, and another body.
    """

    __slots__ = ("_after", "_before", "_head", "_place")

    def __init__(self, head: Head, before: bytes, after: bytes, place: int) -> None:
        self._head = head
        self._before = before
        self._after = after
        self._place = place

    @classmethod
    def of(cls, head: Head, request: bytes) -> Self | None:
        """What is remembered of a request that came as one piece and had this head; None when that is nothing."""
        end = request.find(b"\r\n\r\n", 0, _LONGEST_REMEMBERED) + 4
        sent = request[:end]
        lengths = _LENGTH.findall(sent)
        lines = len(head.headers) + 2
        if (
            end < len(b"\r\n\r\n")
            or len(lengths) != 1
            or len(request) - end != int(lengths[0])
            or not head.keeps_alive
            or head.http_version != "1.1"
            # The parser has seen as many lines as there are: none was folded, and none ended in another way.
            or not sent.count(b"\r") == sent.count(b"\n") == lines
            or any(name in _SPECIAL and (name, value.lower()) != _HARMLESS for name, value in head.headers)
        ):
            return None
        names = [name for name, _ in head.headers]
        found = _LENGTH.search(sent)
        if names.count(b"content-length") != 1 or found is None:
            return None
        return cls(head, sent[: found.start(1)], sent[found.end(1) :], names.index(b"content-length"))

    def again(self, request: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of a whole request with this head; None when these bytes are not one."""
        before, after = self._before, self._after
        if not request.startswith(before):
            return None
        start = len(before)
        end = request.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = request[start:end]
        # Of bytes this takes ASCII's digits alone.
        if end < 0 or not digits.isdigit() or not request.startswith(after, end):
            return None
        body_at = end + len(after)
        if len(request) - body_at != int(digits):
            return None
        head = self._head
        if head.headers[self._place][1] != digits:
            head = self._head = self._with_length(digits)
        return head, request[body_at:]

    def _with_length(self, digits: bytes) -> Head:
        head = self._head
        headers = head.headers.copy()
        headers[self._place] = (b"content-length", digits)
        text = {**head.text, "content-length": digits.decode()}
        return Head(
            head.method, head.path, head.raw_path, head.query, head.http_version, headers, text, head.keeps_alive
        )


def without_h2c(request: bytes) -> bytes:
    """The request without the offer of HTTP/2 that Java's client makes with its first call.

    A server may pass over what it is offered (RFC 9110 §7.8); the parser would take the body for the next request.
    """
    if b"h2c" not in request:
        return request
    head, blank, rest = request.partition(b"\r\n\r\n")
    return _H2C.sub(b"", head + blank) + rest


def asks_for_socket(headers: Headers) -> bool:
    """Whether a request with these headers asks for a WebSocket (RFC 6455 §4.2.1)."""
    told = dict(headers)
    tokens = [token.strip() for token in told.get(b"connection", b"").lower().split(b",")]
    return b"upgrade" in tokens and told.get(b"upgrade", b"").lower() == b"websocket"
