"""Whence a call comes, with and without proxies in front."""

import pytest

from app.api.addresses import Addresses

PROXIES = ("10.0.0.0/8", "2001:db8::/32")


def address(client: str | None, *headers: tuple[str, str], trusted: tuple[str, ...] = PROXIES) -> str | None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Addresses(trusted).of({"client": client and (client, 1234), "headers": raw})


def test_without_trusted_proxies_headers_say_nothing() -> None:
    told = (("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"))
    assert address("10.0.0.1", *told, trusted=()) == "10.0.0.1"
    assert address("198.51.100.1", *told) == "198.51.100.1"
    assert address(None, *told) is None
    assert address("unix", *told) == "unix"


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        # What the client itself sent is on the left.
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db9::1]:4711", "2001:db9::1"),
        ("2001:db9::1", "2001:db9::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_behind_proxies_the_nearest_that_is_none_counts(hops: str, client: str) -> None:
    assert address("10.0.0.1", ("x-forwarded-for", hops)) == client


def test_a_header_that_is_repeated_is_one_list() -> None:
    hops = (("x-forwarded-for", "203.0.113.9, 192.0.2.1"), ("x-forwarded-for", "10.0.0.2"))
    assert address("10.0.0.1", *hops) == "192.0.2.1"


@pytest.mark.parametrize(
    ("element", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ('For="[2001:db9::1]:4711"; proto=https;by=10.0.0.1', "2001:db9::1"),
        ("by=203.0.113.9; for=192.0.2.1:80, for=10.0.0.2", "192.0.2.1"),
        ("for=203.0.113.9, for=_hidden", "10.0.0.1"),
        ("for=203.0.113.9, proto=https", "10.0.0.1"),
    ],
)
def test_the_standard_header_is_read_too(element: str, client: str) -> None:
    assert address("10.0.0.1", ("forwarded", element)) == client


def test_where_the_headers_disagree_neither_is_believed() -> None:
    told = ("x-forwarded-for", "192.0.2.1")
    assert address("10.0.0.1", told, ("forwarded", "for=203.0.113.9")) == "10.0.0.1"
    assert address("10.0.0.1", told, ("forwarded", "for=192.0.2.1")) == "192.0.2.1"
    assert address("10.0.0.1", told, ("forwarded", "for=unknown")) == "10.0.0.1"
