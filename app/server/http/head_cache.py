"""Parse cache of one connection: recognise a head that equals the last but for the body's length."""

from dataclasses import replace
from typing import Self

from app.server.http.request_head import Head

# One head is kept for each connection. SDKs send some 1,000 bytes.
_LONGEST = 4096
_NAME = b"\r\ncontent-length:"
# More digits than any body's length has.
_MOST_DIGITS = 15


class CachedHead:
    """Cache a parsed head, which an SDK repeats for nearly every request on a connection.

    Invariant: bytes that match differ from the parsed ones in the digits of the body's length alone. So the parser
    would return the same head with another length.
    """

    __slots__ = ("_after", "_before", "_head", "_place")

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self._head = head
        self._before = before
        self._after = after
        self._place = head.headers.index((b"content-length", b"%d" % (head.length or 0)))

    @classmethod
    def of(cls, head: Head, raw: bytes) -> Self | None:
        """Cache a head that was parsed from these bytes; None if it cannot be cached.

        Costs little, because a client whose head changes with each request (a trace id) pays for it each time.
        """
        declared = head.text.get("content-length")
        if (
            declared is None
            or not head.keeps_alive
            or head.expects_continue
            # The upgrade is ignored with a body, and not without one.
            or "upgrade" in head.text
            or len(raw) > _LONGEST
            or declared != str(head.length)
        ):
            return None
        # The parser has found exactly one such line, and no value holds a line break.
        start = raw.index(declared.encode(), raw.lower().index(_NAME) + len(_NAME))
        return cls(head, raw[:start], raw[start + len(declared) :])

    def match(self, request: bytes) -> tuple[Head, bytes] | None:
        """Return head and body if these bytes are one whole request with this head; else None."""
        before, after = self._before, self._after
        if not request.startswith(before):
            return None
        start = len(before)
        end = request.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = request[start:end]
        # On bytes, `isdigit` accepts ASCII digits alone.
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
        return replace(head, headers=headers, text=text, length=int(digits))
