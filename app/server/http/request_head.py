"""Parse the head of a request by the grammar of RFC 9112, or refuse it.

A head that two parsers could understand in two ways is refused, never repaired (docs/http-conformance.md).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from app.errors import InvalidRequestError

Headers = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(rb"(%b{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])(?=\r\n)" % _TOKEN)
# A header line; no line folding (§5.2), no CR, LF, NUL or other control character (RFC 9110 §5.5).
_FIELD = re.compile(rb"\r\n(%b+):([^\x00-\x08\x0a-\x1f\x7f]*)(?=\r\n)" % _TOKEN)
# Enough to refuse bytes that are no request before their first line has ended.
_METHOD = re.compile(rb"%b{1,32}(?: |\Z)" % _TOKEN)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_AUTHORITY = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
_HOST = re.compile(_AUTHORITY)
_ABSOLUTE = re.compile(rb"(?i:https?)://(?=[^:/?])%b(?=[/?]|\Z)" % _AUTHORITY.encode())
# Headers that may stand once only: a second one could name another caller, host, length or type.
_ONCE = frozenset({b"host", b"authorization", b"x-api-key", b"api-key", b"content-length", b"content-type", b"expect"})
# More than any length that fits in 64 bits.
_MOST_DIGITS = 20


class NoRequestError(InvalidRequestError):
    """Refuse bytes that do not even begin like a request."""


@dataclass(slots=True)
class Head:
    """Hold the parsed head of a request. `headers` are in their order, with names in lower case.

    `text` has the headers as text, of a repeated name the first value. Neither is to be changed. `length` is that of
    the body in bytes, None for a body in chunks.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    http_version: str
    headers: Headers
    text: Mapping[str, str]
    keeps_alive: bool
    length: int | None = 0
    expects_continue: bool = False
    asks_for_socket: bool = False

    def as_upgrade(self) -> bytes:
        """Render the head of an upgrade request again, with WebSocket as its only upgrade."""
        target = b"%b?%b" % (self.raw_path, self.query) if self.query else self.raw_path
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        lines = [b"%b: %b\r\n" % header for header in [*kept, (b"upgrade", b"websocket")]]
        return b"GET %b HTTP/1.1\r\n%b\r\n" % (target, b"".join(lines))


def parse_head(raw: bytes) -> Head:
    """Parse a head, from its request line to the empty line. Raises InvalidRequestError."""
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise _no_request()
    method, target, major, minor = line.groups()
    if major != b"1":
        raise _refused(505, "This server speaks HTTP/1.1.", "http_version_not_supported")
    headers = parse_fields(raw, line.end(), len(raw) - 2)
    text = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(headers)}
    lists = text if len(text) == len(headers) else _joined(headers)
    is_old = minor == b"0"
    _check_host(lists.get("host"), is_old=is_old)
    length = _length(lists, is_old=is_old)
    raw_path, query = _parts(method, target)
    path = raw_path.decode("ascii")
    options = _tokens(lists["connection"]) if "connection" in lists else ()
    return Head(
        method=method.decode("ascii"),
        path=unquote(path) if "%" in path else path,
        raw_path=raw_path,
        query=query,
        http_version="1.0" if is_old else "1.1",
        headers=headers,
        text=text,
        # A client of HTTP/1.0 keeps its connection by agreement only (RFC 9112 §9.3), which this server does not make.
        keeps_alive=not is_old and "close" not in options,
        length=length,
        # Ignored in HTTP/1.0 (RFC 9110 §10.1.1).
        expects_continue=not is_old and "expect" in lists and _expects_continue(lists["expect"]),
        # Any other upgrade, or one with a body, is an offer that may be ignored (RFC 9110 §7.8).
        asks_for_socket=not is_old
        and "upgrade" in options
        and method == b"GET"
        and length == 0
        and "websocket" in _tokens(lists.get("upgrade", "")),
    )


def parse_fields(raw: bytes | bytearray, start: int, end: int) -> Headers:
    """Parse the lines of a header or trailer section, from the line break before it to its last line break.

    Raises InvalidRequestError.
    """
    found = _FIELD.findall(raw, start, end)
    # One line break for each line, and one before the first.
    if raw.count(b"\n", start, end) != len(found) + 1:
        raise malformed("a line of its headers is not `name: value`")
    return [(name.lower(), value.strip(b" \t")) for name, value in found]


def check_beginning(raw: bytes | bytearray, start: int, looked: int) -> None:
    """Refuse bytes that can become no head, before its end is here; up to `looked` they were checked before."""
    is_line = raw.find(b"\n", max(start, looked)) < 0 or _REQUEST_LINE.match(raw, start)
    if not (is_line and _METHOD.match(raw[start : start + 33])):
        raise _no_request()
    if _BARE_LF.search(raw, max(start, looked - 1)):
        raise malformed("a line of its head does not end in CRLF")


def malformed(why: str) -> InvalidRequestError:
    """Make the error (400) for bytes that are no request."""
    return _refused(400, f"Invalid HTTP request received: {why}.", None)


def _no_request() -> NoRequestError:
    return NoRequestError("Invalid HTTP request received: it does not begin like a request of HTTP/1.1.")


def too_large(what: str) -> InvalidRequestError:
    """Make the error (431) for a head, or trailers, beyond the limit."""
    return _refused(431, f"The request's {what} are too large.", "headers_too_large")


def _refused(status: int, message: str, code: str | None) -> InvalidRequestError:
    return InvalidRequestError(message, code=code, status=status)


def _joined(headers: Headers) -> dict[str, str]:
    """Return the headers by name, with repeated ones joined to lists (RFC 9110 §5.3)."""
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in joined and name in _ONCE:
            raise malformed(f"it has two headers of the name {name.decode()!r}")
        joined[name] = b"%b, %b" % (joined[name], value) if name in joined else value
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in joined.items()}


def _tokens(listed: str) -> list[str]:
    return [token.strip(" \t") for token in listed.lower().split(",")]


def _check_host(host: str | None, *, is_old: bool) -> None:
    # RFC 9112 §3.2.
    if host is None:
        if not is_old:
            raise malformed("it has no Host header")
    elif not _HOST.fullmatch(host):
        raise malformed("its Host header is not a host")


def _length(lists: Mapping[str, str], *, is_old: bool) -> int | None:
    """Determine the length of the body, None for chunks (RFC 9112 §6.3)."""
    declared, coding = lists.get("content-length"), lists.get("transfer-encoding")
    if coding is None:
        if declared is None:
            return 0
        if not (declared.isascii() and declared.isdigit() and len(declared) <= _MOST_DIGITS):
            raise malformed("its Content-Length is not a number")
        return int(declared)
    if declared is not None or is_old:
        raise malformed("its Transfer-Encoding contradicts its length or its version")
    codings = _tokens(coding)
    if codings == ["chunked"]:
        return None
    if codings.pop() != "chunked" or "chunked" in codings:
        raise malformed("the end of its body cannot be told from its Transfer-Encoding")
    raise _refused(501, "The transfer codings of this request are not supported: use 'chunked'.", "unsupported_coding")


def _parts(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Split a request's target into path and query (RFC 9112 §3.2)."""
    if method == b"CONNECT":
        raise _refused(501, "This server is no proxy: it does not implement CONNECT.", "method_not_implemented")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise malformed("its target is not a path")
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if b"#" in target:
        raise malformed("its target has a fragment")
    path, _, query = target.partition(b"?")
    return path, query


def _expects_continue(expected: str) -> bool:
    if expected.lower() != "100-continue":
        raise _refused(417, "This server meets no expectation but '100-continue'.", "expectation_failed")
    return True
