"""Parse cache of one connection: recognise a head that differs from the last in the length of its body alone."""

from dataclasses import replace
from typing import Self

from app.server.head import Head

# A head is kept for each connection. Those of SDKs take some 1,000 bytes.
_LONGEST = 4096
_NAME = b"\r\ncontent-length:"
# No body is that long, and no shorter number overflows.
_MOST_DIGITS = 15


class RememberedHead:
    """A head of which the next may be a repetition, as nearly all are that an SDK sends on one connection.

    Invariant: what it recognises differs from the bytes that were parsed in the digits of the body's length alone. So
    the parser would find in it just what it found then, and another body.
    """

    __slots__ = ("_after", "_before", "_head", "_place")

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self._head = head
        self._before = before
        self._after = after
        self._place = head.headers.index((b"content-length", b"%d" % (head.length or 0)))

    @classmethod
    def of(cls, head: Head, raw: bytes) -> Self | None:
        """What is remembered of a head that was parsed from these bytes; None when that is nothing.

        It costs little, because a client whose head changes with each request (a trace id) pays for it each time.
        """
        told = head.text.get("content-length")
        if (
            told is None
            or not head.keeps_alive
            or head.expects_continue
            # It is passed over where a body follows, and not where none does.
            or "upgrade" in head.text
            or len(raw) > _LONGEST
            or told != str(head.length)
        ):
            return None
        # The parser has found one such line, and no value holds a line break.
        start = raw.index(told.encode(), raw.lower().index(_NAME) + len(_NAME))
        return cls(head, raw[:start], raw[start + len(told) :])

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
        return replace(head, headers=headers, text=text, length=int(digits))
