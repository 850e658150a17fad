"""Describe the way to one origin, directly or through a proxy, and write the head of a request for it."""

from base64 import b64encode
from collections.abc import Iterable

import httpx

_PORTS = {"http": 80, "https": 443}
# The route sets these, whatever a request's headers say.
_SET_BY_ROUTE = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"proxy-authorization"})


class Route:
    """Lead to the origin of a URL, directly or through a proxy. Connections of one route are interchangeable.

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

    def head(self, method: str, path: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Write the head of a request, without its content-length and its end.

        Raises httpx.LocalProtocolError when a line break in some header would make it another request.
        """
        line = b"%b %b%b HTTP/1.1\r\n" % (method.encode("ascii"), self._target, path)
        return _checked(line, 1) + self._lines + lines_of(headers)

    def connect_head(self, proxy: httpx.URL) -> bytes:
        """Write the request that asks the proxy for a tunnel to the origin."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = f"{host}:{self.port}".encode("ascii")
        return b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, _authorization(proxy))


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write these headers as lines, without those that the route sets. Raises as `Route.head` does."""
    lines = [b"%b: %b\r\n" % header for header in headers if header[0].lower() not in _SET_BY_ROUTE]
    return _checked(b"".join(lines), len(lines))


def _checked(text: bytes, lines: int) -> bytes:
    if not text.count(b"\n") == text.count(b"\r") == lines:
        raise httpx.LocalProtocolError("A header of the request holds a line break.")
    return text


def _authorization(proxy: httpx.URL) -> bytes:
    if not proxy.userinfo:
        return b""
    return b"proxy-authorization: Basic %b\r\n" % b64encode(f"{proxy.username}:{proxy.password}".encode())
