"""The grammar of a head (RFC 9112): what is taken, as what, and what is refused with which status."""

import pytest

from tests.fakes.requests import Heard

POST = b"POST / HTTP/1.1\r\nhost: a\r\n"


def status_of(raw: bytes) -> int:
    heard = Heard().feed(raw)
    assert heard.requests or heard.error, "neither taken nor refused"
    return heard.status


def get(*lines: bytes, version: bytes = b"1.1", target: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/%b" % (target, version), *lines, b"", b""])


@pytest.mark.parametrize(
    ("lines", "version", "status"),
    [
        ([b"Host: a"], b"1.1", 200),
        ([b"HOST:a:80"], b"1.1", 200),
        ([b"Host:"], b"1.1", 200),
        ([b"Host: [::1]:8000"], b"1.1", 200),
        ([b"Host: my_service.local"], b"1.1", 200),
        ([], b"1.1", 400),
        ([b"Host: a", b"Host: a"], b"1.1", 400),
        ([b"Host: a", b"host: b"], b"1.1", 400),
        ([b"Host: a, b"], b"1.1", 400),
        ([b"Host: a/b"], b"1.1", 400),
        ([b"Host: user@a"], b"1.1", 400),
        ([b"Host: a b"], b"1.1", 400),
        ([b"Host: \xff"], b"1.1", 400),
        ([], b"1.0", 200),
        ([b"Host: a", b"Host: b"], b"1.0", 400),
    ],
)
def test_a_request_names_one_host(lines: list[bytes], version: bytes, status: int) -> None:
    assert status_of(get(*lines, version=version)) == status


@pytest.mark.parametrize("name", [b"Authorization", b"X-Api-Key", b"Api-Key", b"Content-Type", b"Expect"])
def test_what_may_be_said_once_is_not_said_twice(name: bytes) -> None:
    line = name + b": 100-continue"
    assert status_of(get(b"host: a", line)) == 200
    assert status_of(get(b"host: a", line, line.lower())) == 400
    assert status_of(get(b"host: a", b"accept: a", b"accept: b")) == 200


@pytest.mark.parametrize(
    ("version", "status"),
    [(b"1.1", 200), (b"1.0", 200), (b"1.2", 200), (b"2.0", 505), (b"0.9", 505), (b"3.0", 505)]
    + [(version, 400) for version in (b"1", b"11", b"1.10", b"x.y", b" 1.1", b"1.1 ", b"")],
)
def test_a_request_is_of_a_version_of_http_1(version: bytes, status: int) -> None:
    assert status_of(get(b"host: a", version=version)) == status


def test_what_http_0_9_asks_is_refused() -> None:
    assert status_of(b"GET /\r\n") == 400
    assert status_of(b"GET /\r\nhost: a\r\n\r\n") == 400
    assert status_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 505
    assert status_of(get(b"host: a").replace(b"HTTP/1.1", b"http/1.1")) == 400


@pytest.mark.parametrize(
    "line",
    [
        b"a : b",
        b" a: b",
        b"\ta: b",
        b"a\t: b",
        b": b",
        b"a",
        b"a(b): c",
        b"a\xff: b",
        b"a: b\r\n c",
        b"a: b\r\n\tc",
        b"a: b\rc",
        b"a: b\nc: d",
        b"a: b\x00c",
        b"a: b\x07",
        b"a: b\x7f",
    ],
)
def test_a_line_of_a_head_is_a_name_and_a_value(line: bytes) -> None:
    assert status_of(get(b"host: a", line)) == 400
    assert status_of(get(line, b"host: a")) == 400


def test_a_value_is_taken_without_the_spaces_around_it() -> None:
    (head, _), *rest = Heard().feed(get(b"host: a", b"x:\t a, \xe9b \t", b"Empty:", b"x: second")).requests
    assert not rest
    assert head.headers == [(b"host", b"a"), (b"x", b"a, \xe9b"), (b"empty", b""), (b"x", b"second")]
    assert head.text == {"host": "a", "x": "a, \xe9b", "empty": ""}


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        ([b"content-length: 2"], b"{}", 200),
        ([b"content-length: 002"], b"{}", 200),
        ([b"Transfer-Encoding: Chunked"], b"2\r\n{}\r\n0\r\n\r\n", 200),
        ([b"transfer-encoding: \tchunked "], b"2\r\n{}\r\n0\r\n\r\n", 200),
        ([b"content-length: 2", b"content-length: 2"], b"{}", 400),
        ([b"content-length: 2", b"content-length: 3"], b"{}", 400),
        ([b"content-length: 2, 2"], b"{}", 400),
        ([b"content-length: +2"], b"{}", 400),
        ([b"content-length: -2"], b"{}", 400),
        ([b"content-length: 0x2"], b"{}", 400),
        ([b"content-length: 2.0"], b"{}", 400),
        ([b"content-length:"], b"{}", 400),
        ([b"content-length: \xb2"], b"{}", 400),
        ([b"content-length: 100000000000000000000000"], b"{}", 400),
        ([b"content-length: 2", b"transfer-encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        ([b"transfer-encoding: identity", b"transfer-encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n", 501),
        ([b"transfer-encoding: gzip, chunked"], b"2\r\n{}\r\n0\r\n\r\n", 501),
        ([b"transfer-encoding: chunked, chunked"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        ([b"transfer-encoding: chunked", b"transfer-encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        ([b"transfer-encoding: chunked, identity"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        ([b"transfer-encoding: identity"], b"{}", 400),
        ([b"transfer-encoding: xchunked"], b"{}", 400),
        ([b"transfer-encoding: chunked;a=b"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        ([b"transfer-encoding:"], b"{}", 400),
    ],
)
def test_a_body_ends_where_every_reader_says_it_ends(lines: list[bytes], body: bytes, status: int) -> None:
    heard = Heard().feed(POST + b"\r\n".join([*lines, b"", b""]) + body)
    assert (heard.status, heard.bodies) == (status, [b"{}"] if status == 200 else [])


def test_http_1_0_knows_no_chunks() -> None:
    assert status_of(b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/v1/responses?a=b?c", "/v1/responses", b"a=b?c"),
        (b"//x/%41", "//x/A", b""),
        (b"/a?", "/a", b""),
        (b"http://gateway/v1/models?a", "/v1/models", b"a"),
        (b"HTTPS://gateway:443/v1", "/v1", b""),
        (b"http://[::1]", "/", b""),
        (b"http://gateway?a=b", "/", b"a=b"),
    ],
)
def test_a_target_is_a_path_or_a_url_that_has_one(target: bytes, path: str, query: bytes) -> None:
    ((head, _),) = Heard().feed(get(b"host: a", target=target)).requests
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        *(b"v1/models", b"*", b"gateway:80", b"ftp://a/b", b"http:/a", b"http://", b"http:///a", b"http://u@a/b"),
        *(b"/a#b", b"/\xc3\xa9", b"/a b", b"/\x00", b"/a\tb", b"http://a#b", b"/\x7f"),
    ],
)
def test_any_other_target_is_refused(target: bytes) -> None:
    assert status_of(get(b"host: a", target=target)) == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"OPTIONS * HTTP/1.1", 200),
        (b"PATCH / HTTP/1.1", 200),
        (b"OPTIONS gateway:80 HTTP/1.1", 400),
        (b"CONNECT gateway:80 HTTP/1.1", 501),
        (b"BREW / HTTP/1.1", 200),
        (b"x" * 33 + b" / HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET HTTP/1.1", 400),
    ],
)
def test_a_request_line_is_a_method_a_target_and_a_version(line: bytes, status: int) -> None:
    assert status_of(line + b"\r\nhost: a\r\n\r\n") == status


@pytest.mark.parametrize(
    ("version", "expected", "status", "expects"),
    [
        (b"1.1", b"100-continue", 200, True),
        (b"1.1", b"100-Continue", 200, True),
        (b"1.1", b"100-continue, x", 417, False),
        (b"1.1", b"", 417, False),
        (b"1.1", b"200-ok", 417, False),
        (b"1.0", b"100-continue", 200, False),
        (b"1.0", b"200-ok", 200, False),
    ],
)
def test_an_expectation_is_met_or_refused(version: bytes, expected: bytes, status: int, expects: bool) -> None:
    heard = Heard().feed(get(b"host: a", b"expect: " + expected, version=version))
    assert heard.status == status
    assert [head.expects_continue for head, _ in heard.requests] == ([expects] if status == 200 else [])


@pytest.mark.parametrize(
    ("version", "lines", "keeps"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"connection: keep-alive"], True),
        (b"1.1", [b"connection: Close"], False),
        (b"1.1", [b"connection: keep-alive", b"connection: close"], False),
        (b"1.1", [b"connection: x-close"], True),
        (b"1.0", [b"connection: keep-alive"], False),
    ],
)
def test_a_connection_is_kept_unless_one_side_says_otherwise(version: bytes, lines: list[bytes], keeps: bool) -> None:
    ((head, _),) = Heard().feed(get(b"host: a", *lines, version=version)).requests
    assert head.keeps_alive is keeps


@pytest.mark.parametrize(
    ("lines", "asks"),
    [
        ([b"connection: upgrade", b"upgrade: websocket"], True),
        ([b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"], True),
        ([b"connection: keep-alive", b"connection: upgrade", b"upgrade: h2c", b"upgrade: websocket"], True),
        ([b"upgrade: websocket"], False),
        ([b"connection: upgrade"], False),
        ([b"connection: upgrade", b"upgrade: h2c"], False),
        ([b"connection: upgrade", b"upgrade: websocket/13"], False),
        ([b"connection: upgrade", b"upgrade: websocket", b"content-length: 2"], False),
    ],
)
def test_a_websocket_is_asked_for_by_a_get_without_a_body(lines: list[bytes], asks: bool) -> None:
    heard = Heard().feed(get(b"host: a", *lines) + b"{}")
    ((head, _), *_) = heard.requests
    assert head.asks_for_socket is asks
    if asks:
        assert head.as_upgrade().lower().count(b"upgrade: websocket\r\n") == 1


@pytest.mark.parametrize("offer", [b"h2c", b"H2C", b"TLS/1.2", b"websocket", b"h2c, x"])
def test_an_upgrade_that_is_passed_over_costs_nothing_of_the_body(offer: bytes) -> None:
    raw = POST + b"connection: upgrade\r\nupgrade: %b\r\ncontent-length: 2\r\n\r\n{}" % offer
    for pieces in ([raw], [raw[:40], raw[40:]], [bytes([byte]) for byte in raw]):
        heard = Heard().feed(*pieces)
        assert [(head.method, body) for head, body in heard.requests] == [("POST", b"{}")]
