"""Cache the rendered lines of the headers that every answer has, until uvicorn changes the headers."""

from collections.abc import Sequence


class CommonHeaders:
    """Keep the lines of the last list of headers; uvicorn makes a list with a new date each second."""

    __slots__ = ("_headers", "_lines")

    def __init__(self) -> None:
        self._headers: object = None
        self._lines = b""

    def rendered(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Render these headers as lines of a head."""
        if self._headers is not headers:
            self._headers, self._lines = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._lines
