"""Requests as bytes, and what our reader makes of bytes."""

from dataclasses import dataclass, field

from app.errors import InvalidRequestError
from app.server.http.request_head import Head
from app.server.http.request_reader import RequestReader

SDK = (
    b"POST /v1/responses HTTP/1.1\r\nHost: gateway\r\nAccept: application/json\r\nConnection: keep-alive\r\n"
    b"Content-Type: application/json\r\nX-Stainless-Retry-Count: 0\r\nAuthorization: Bearer sk-aph_x\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


def request(body: bytes) -> bytes:
    """A request as an SDK sends it."""
    return SDK % (len(body), body)


@dataclass
class Heard:
    """What a reader makes of what it is fed: whole requests, and the error that ended it."""

    requests: list[tuple[Head, bytes]] = field(default_factory=list)
    error: InvalidRequestError | None = None
    recognised: int = 0
    remembers: bool = True

    def __post_init__(self) -> None:
        self.reader = RequestReader()
        self._head: Head | None = None
        self._body = b""

    def feed(self, *pieces: bytes) -> "Heard":
        """Read each piece as a connection does whose app answers at once."""
        for piece in pieces:
            if self.error is None:
                try:
                    self._read(piece)
                except InvalidRequestError as error:
                    self.error = error
        return self

    def _read(self, piece: bytes) -> None:
        reader = self.reader
        if not self.remembers:
            reader._cached_head = None
        if self._head is None and (recognised := reader.recognise(piece)) is not None:
            self.recognised += 1
            self.requests.append(recognised)
            return
        reader.feed(piece)
        while True:
            if self._head is None:
                self._head, self._body = reader.read_head(), b""
                if self._head is None:
                    return
            self._body += reader.read_body()
            if reader.is_whole:
                self.requests.append((self._head, self._body))
                self._head = None
            elif not reader.is_interrupted:
                return

    @property
    def status(self) -> int:
        """The status that ended it; 200 for none."""
        return 200 if self.error is None else self.error.status

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.requests]
