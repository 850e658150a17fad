"""Whence a call comes, with and without proxies in front."""

import pytest
from structlog.testing import capture_logs

from app.api.client_address import Addresses

PROXIES = ("10.0.0.0/8", "2001:db8::/32")
Header = tuple[str, str]


def address(
    client: str | None,
    *headers: Header,
    trusted: tuple[str, ...] = PROXIES,
    believed: str | None = "x-forwarded-for",
) -> str | None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Addresses(trusted, believed).of({"client": None if client is None else (client, 1234), "headers": raw})


def test_of_anybody_but_a_trusted_proxy_no_header_is_looked_at() -> None:
    told = (("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"))
    assert address("10.0.0.1", *told, trusted=()) == "10.0.0.1"
    assert address("198.51.100.1", *told) == "198.51.100.1"
    assert address(None, *told) is None


@pytest.mark.parametrize(
    ("host", "read"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB9:0::1", "2001:db9::1"),
        ("unix", None),
        ("", None),
    ],
)
def test_the_address_of_a_socket_has_one_form(host: str, read: str | None) -> None:
    assert address(host, trusted=()) == read
    assert address(host) == read


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("proxies", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:0:0/96"])
def test_a_proxy_is_trusted_in_either_form_of_its_address(peer: str, proxies: str) -> None:
    told = ("x-real-ip", "2001:db9::1")
    assert address(peer, told, trusted=(proxies,), believed="x-real-ip") == "2001:db9::1"


def test_where_no_header_is_named_a_client_behind_a_proxy_has_no_address() -> None:
    for name in ("x-forwarded-for", "x-real-ip"):
        assert address("10.0.0.1", (name, "192.0.2.1"), believed=None) is None
    assert address("10.0.0.1", ("forwarded", "for=192.0.2.1"), believed=None) is None
    assert address("10.0.0.1", ("", "192.0.2.1"), believed=None) is None
    assert address("192.0.2.9", believed=None) == "192.0.2.9"


def test_an_operator_is_told_of_one_half_without_the_other() -> None:
    for trusted, believed, lines in (
        ((), None, 0),
        (PROXIES, "forwarded", 0),
        (PROXIES, None, 1),
        ((), "forwarded", 1),
    ):
        with capture_logs() as logged:
            Addresses(trusted, believed)
        assert len(logged) == lines


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        # What the client itself sent is on the left.
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("203.0.113.9,192.0.2.1\t,\t10.0.0.2 ", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db9::1]:4711", "2001:db9::1"),
        ("[2001:db9::1]", "2001:db9::1"),
        ("2001:db9::1", "2001:db9::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (", ".join(["203.0.113.9"] * 31 + ["192.0.2.1"]), "192.0.2.1"),
    ],
)
def test_behind_proxies_the_nearest_that_is_none_counts(hops: str, client: str) -> None:
    assert address("10.0.0.1", ("x-forwarded-for", hops)) == client


@pytest.mark.parametrize(
    "hops",
    [
        "",
        ",",
        "192.0.2.1,",
        ", 192.0.2.1",
        "192.0.2.1, unknown, 10.0.0.2",
        "unknown, 192.0.2.1",
        "192.0.2.1, _hidden",
        "192.0.2.1 10.0.0.2",
        "192.0.2.1; 10.0.0.2",
        '"192.0.2.1"',
        "192.0.2.01",
        "192.0.2.1%eth0",
        "192.0.2.0/24",
        "192.0.2",
        "3221225985",
        "192.0.2.1:",
        "192.0.2.1:4711:1",
        "2001:db9::1]:80",
        "[2001:db9::1]x",
        "[192.0.2.1",
        "client.example",
        "192.0.2.\xb9",
        "for=192.0.2.1",
        ", ".join(["192.0.2.1"] * 33),
        ", ".join(["192.0.2.1"] * 10_000),
    ],
)
def test_what_is_not_told_clearly_is_no_address(hops: str) -> None:
    assert address("10.0.0.1", ("x-forwarded-for", hops)) is None


def test_a_header_that_is_missing_or_there_twice_tells_no_address() -> None:
    told = ("x-forwarded-for", "192.0.2.1")
    assert address("10.0.0.1") is None
    assert address("10.0.0.1", told, told) is None
    assert address("10.0.0.1", told, ("x-forwarded-for", "")) is None


def test_of_all_headers_only_the_one_that_is_named_is_looked_at() -> None:
    told = (
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.2"),
        ("x-real-ip", "192.0.2.3"),
        ("cf-connecting-ip", "192.0.2.4"),
        ("x_forwarded_for", "192.0.2.5"),
    )
    for last, (name, _) in enumerate(told, start=1):
        assert address("10.0.0.1", *told, believed=name) == f"192.0.2.{last}"
        others = [header for header in told if header[0] != name]
        assert address("10.0.0.1", *others, believed=name) is None


@pytest.mark.parametrize(
    ("element", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ('For="[2001:db9::1]:4711"; proto=https;by=10.0.0.1', "2001:db9::1"),
        ("by=203.0.113.9; for=192.0.2.1:80, for=10.0.0.2", "192.0.2.1"),
        ('for="192.0.2.1:80";host="a,b;for=203.0.113.9"', "192.0.2.1"),
        ("for=203.0.113.9, for=192.0.2.1 , for=10.0.0.2", "192.0.2.1"),
        ('for="[::ffff:192.0.2.1]"', "192.0.2.1"),
        ("for=203.0.113.9, for=_hidden", None),
        ("for=unknown", None),
        ("for=unknown, for=192.0.2.1", None),
        ("for=203.0.113.9, proto=https", None),
        ("for=203.0.113.9;for=192.0.2.1", None),
        ("for=192.0.2.1;", None),
        ("for=192.0.2.1,", None),
        ("for=", None),
        ('for="192.0.2.1', None),
        ('for="192.0.2\\.1"', None),
        ("192.0.2.1", None),
        ("for=192.0.2.1 for=203.0.113.9", None),
        ("", None),
        (", ".join(["for=192.0.2.1"] * 33), None),
    ],
)
def test_the_standard_header_is_read_as_the_standard_has_it(element: str, client: str | None) -> None:
    assert address("10.0.0.1", ("forwarded", element), believed="forwarded") == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        # It says who the client is, whoever that is.
        ("10.0.0.7", "10.0.0.7"),
        ("[2001:db9::1]:80", "2001:db9::1"),
        ("192.0.2.1, 10.0.0.2", None),
        ("192.0.2.1 192.0.2.2", None),
        ("unknown", None),
    ],
)
def test_a_header_of_one_address_holds_one(value: str, client: str | None) -> None:
    assert address("10.0.0.1", ("x-real-ip", value), believed="x-real-ip") == client
