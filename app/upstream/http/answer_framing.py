"""Read the framing of an answer's body from its headers, and refuse headers that two parsers may read differently."""

import httpx

from app.upstream.transport import RawHeaders

_TRANSFER_ENCODING = b"transfer-encoding"
_NAME_LENGTH = len(_TRANSFER_ENCODING)
_BLANK = ord(" ")
# `identity` changes nothing; such a body ends with its connection.
_TRANSFER_CODINGS = frozenset({b"chunked", b"identity"})


def size(headers: RawHeaders) -> int:
    """Return the bytes of all names and values."""
    return sum(len(name) + len(value) for name, value in headers)


def has_coding(headers: RawHeaders, *, is_framed: bool) -> bool:
    """Tell whether there is a transfer coding. `is_framed`: the parser knows the body's end before the connection does.

    Raises httpx.RemoteProtocolError for a coding to undo, of which none was asked for (RFC 9112 6.1), and for headers
    that the parser may read differently: a blank before a colon, or blanks behind a coding.
    """
    coding: bytes | None = None
    for name, value in headers:
        if name[-1] == _BLANK:
            raise httpx.RemoteProtocolError("A header with a blank before its colon.")
        if len(name) == _NAME_LENGTH and name.lower() == _TRANSFER_ENCODING:
            stripped = value.strip()
            if (
                coding is not None
                or stripped.lower() not in _TRANSFER_CODINGS
                or (len(stripped) < len(value) and not is_framed)
            ):
                raise httpx.RemoteProtocolError("A body in codings that nobody asked for.")
            coding = stripped
    return coding is not None


def has_framing(headers: RawHeaders) -> bool:
    """Tell whether the body ends before the connection does."""
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-length" or (lowered == _TRANSFER_ENCODING and b"chunked" in value.lower()):
            return True
    return False
