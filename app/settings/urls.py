"""Validate the URLs and networks in settings, and tell whether a URL leads to this machine."""

import ipaddress
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, urlsplit

LOOPBACK_OF: Mapping[str, str] = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # noqa: S104 - compared with, not bound to
"""The loopback address of a host that stands for every interface."""

# Options that a limits URL may set in its query; the gateway sets the others.
_SERVER_OPTIONS = frozenset({"db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


def split_url(value: str) -> SplitResult:
    """Split a URL; raises ValueError with a text that quotes no part of it."""
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError("is not a URL; percent-encode special characters in a user name or password") from None
    return url


def check_database_url(value: str) -> None:
    """Raise ValueError unless this names a PostgreSQL database or a SQLite file."""
    url = split_url(value)
    if url.scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        good = bool(value.partition("://")[2])
    else:
        # Every connection to ":memory:" is a database of its own, so a path is required.
        is_sqlite = url.scheme in ("sqlite", "sqlite+aiosqlite")
        good = is_sqlite and not url.netloc and url.path not in ("", "/", "/:memory:")
    if not good:
        raise ValueError("must be postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///PATH")


def check_limits_url(value: str) -> None:
    """Raise ValueError unless this names a Valkey or Redis server."""
    url = split_url(value)
    database = url.path.removeprefix("/")
    is_server = url.scheme in ("redis", "rediss") and bool(url.hostname) and (not database or database.isdecimal())
    is_socket = url.scheme == "unix" and not url.netloc.rpartition("@")[2] and bool(database)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if not (is_server or is_socket) or not options.keys() <= _SERVER_OPTIONS or not options.get("db", "0").isdecimal():
        raise ValueError(
            "must be redis://USER:PASSWORD@HOST:PORT/NUMBER, rediss://… the same, or unix:///PATH?db=NUMBER"
        )


def leads_to(url: SplitResult, host: str, port: int) -> bool:
    """Tell whether this URL leads to the listener at `host` and `port` on this machine."""
    named = url.hostname or ""
    same_host = named == host or (is_loopback(named) and (host in LOOPBACK_OF or is_loopback(host)))
    return same_host and port == (url.port or (443 if url.scheme == "https" else 80))


def check_networks(values: Iterable[str]) -> None:
    """Raise ValueError unless each names a network or an address."""
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError("must be networks or addresses such as 10.0.0.0/8") from None


def is_loopback(host: str) -> bool:
    """Tell whether this host is loopback, reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
