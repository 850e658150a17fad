"""The way to one origin, and what a request says on it. Must not know how a connection is opened or kept."""

from base64 import b64encode
from functools import lru_cache

import httpx

# The calls of one account differ in little that comes before the body's length.
_HEADS_REMEMBERED = 64
_PORTS = {"http": 80, "https": 443}
# They belong to the way, whatever a request says of them.
_OF_THE_WAY = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"proxy-authorization"})


class Route:
    """The way to the origin of a URL, directly or through a proxy. Connections of one route are as good as each other.

    A proxy reads the requests for an http origin. For an https origin it passes bytes on, once asked with CONNECT.
    """

    def __init__(self, url: httpx.URL, proxy: httpx.URL | None) -> None:
        self.is_tls = url.scheme == "https"
        self.host = url.raw_host.decode("ascii")
        self.port = url.port or _PORTS[url.scheme]
        self.proxy = proxy
        self.peer = (self.host, self.port) if proxy is None else (proxy.host, proxy.port or _PORTS.get(proxy.scheme, 0))
        self._target = b""
        self._lines = b"host: %b\r\n" % url.netloc
        if proxy is not None and not self.is_tls:
            self._target = b"http://%b" % url.netloc
            self._lines += _authorization(proxy)
        self._rendered = lru_cache(_HEADS_REMEMBERED)(self._render)

    def head(self, request: httpx.Request, length: int) -> bytes:
        """The request's head for a body of this length.

        Raises httpx.LocalProtocolError when a line break in some header would make it another request.
        """
        head = self._rendered(request.method, request.url.raw_path, tuple(request.headers.raw))
        if length or request.method != "GET":
            return b"%bcontent-length: %d\r\n\r\n" % (head, length)
        return head + b"\r\n"

    def connect_head(self, proxy: httpx.URL) -> bytes:
        """The request that asks the proxy for a tunnel to the origin."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = f"{host}:{self.port}".encode("ascii")
        return b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, _authorization(proxy))

    def _render(self, method: str, path: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        """A head but for the body's length."""
        lines = [b"%b: %b\r\n" % header for header in headers if header[0].lower() not in _OF_THE_WAY]
        head = b"%b %b%b HTTP/1.1\r\n%b%b" % (
            method.encode("ascii"),
            self._target,
            path,
            self._lines,
            b"".join(lines),
        )
        breaks = 1 + self._lines.count(b"\n") + len(lines)
        if not head.count(b"\n") == head.count(b"\r") == breaks:
            raise httpx.LocalProtocolError("A header of the request holds a line break.")
        return head


def _authorization(proxy: httpx.URL) -> bytes:
    if not proxy.userinfo:
        return b""
    return b"proxy-authorization: Basic %b\r\n" % b64encode(f"{proxy.username}:{proxy.password}".encode())
