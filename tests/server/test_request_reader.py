"""Requests are told apart the same way in whatever pieces they come, and whether their head is parsed or recognised."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.requests import SDK, Heard, request

Outcome = tuple[list[tuple[object, bytes]], str]


def outcome(*pieces: bytes) -> Outcome:
    heard = Heard().feed(*pieces)
    return [*heard.requests], str(heard.error or "")


def test_a_head_that_comes_again_is_not_parsed() -> None:
    heard = Heard().feed(request(b"{}"), request(b'{"model":"demo"}'), request(b""))
    assert heard.recognised == 2
    assert heard.bodies == [b"{}", b'{"model":"demo"}', b""]
    heads = [head for head, _ in heard.requests]
    assert [head.text["content-length"] for head in heads] == ["2", "16", "0"]
    assert [head.length for head in heads] == [2, 16, 0]
    assert all((b"content-length", head.text["content-length"].encode()) in head.headers for head in heads)
    # Nobody's head changes while it is served.
    assert heard.requests[0] == Heard().feed(request(b"{}")).requests[0]


@pytest.mark.parametrize(
    "second",
    [
        request(b"{}") + request(b"{}"),
        request(b"{}")[:-1],
        request(b"{}").replace(b"Length: 2", b"Length: +2"),
        request(b"{}").replace(b"Length: 2", b"Length: \xc2\xb2"),
        request(b"{}").replace(b"Length: 2", b"Length: "),
        request(b"{}").replace(b"Length: 2", b"Length: 00000000000000000002"),
        request(b"{}").replace(b"Length: 2\r\n", b"Length: 2\n"),
        request(b"{}").replace(b"Host: gateway\r\n", b"Host: gateway\r\nTransfer-Encoding: chunked\r\n"),
        request(b"{}").replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"),
        b"\r\n" + request(b"{}"),
        b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n",
        b"nothing of the kind\r\n\r\n",
    ],
)
def test_what_is_not_quite_the_head_is_parsed(second: bytes) -> None:
    fresh, error = outcome(second)
    assert outcome(request(b"{}"), second) == ([*outcome(request(b"{}"))[0], *fresh], error)


@pytest.mark.parametrize(
    "first",
    [
        request(b"{}").replace(b"keep-alive", b"close"),
        request(b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(b"{}").replace(b"Accept: application/json", b"Expect: 100-continue"),
        request(b"{}").replace(b"keep-alive", b"upgrade").replace(b"Accept: application/json", b"Upgrade: websocket"),
        request(b"{}").replace(b"Content-Length: 2", b"Content-Length: 002"),
        request(b"{}").replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2] + b"2\r\n{}\r\n0\r\n\r\n",
        request(b"{}") + request(b"{}"),
        request(b"{}").replace(b"Accept: ", b"Accept: " + b"x" * 4096),
        b"\r\n" + request(b"{}"),
        b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n",
    ],
)
def test_a_request_that_is_more_than_a_head_and_a_body_is_not_recognised(first: bytes) -> None:
    heard = Heard().feed(first, first)
    assert (heard.recognised, heard.error) == (0, None)
    assert len(heard.requests) >= 2


def test_a_connection_whose_heads_differ_is_not_remembered_for_ever() -> None:
    heard = Heard()
    for number in range(20):
        heard.feed(request(b"{}").replace(b"Accept:", b"Traceparent: %d\r\nAccept:" % number))
        assert (heard.reader._cached_head is None) == (number >= 8)
    assert len(heard.requests) == 20
    # It takes as many in a row.
    heard = Heard()
    for number in range(20):
        heard.feed(request(b"{}").replace(b"gateway", b"gateway%d" % number), request(b"{}"), request(b"{}"))
    assert heard.recognised == 20


HEADER = st.sampled_from(
    [
        b"Accept: */*",
        b"Connection: keep-alive",
        b"connection: close",
        b"Content-Length: 3",
        b"X-Content-Length: 3",
        b"X-Note: \tcontent-length: 3 ",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"X-Folded: a\r\n b",
        b"Upgrade: h2c",
    ]
)
BODY = st.sampled_from([b"", b"{}", b"a\r\n\r\nb", b"0\r\n\r\n", SDK % (1, b"x")])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(headers=st.lists(HEADER, max_size=4), bodies=st.lists(BODY, min_size=1, max_size=4))
def test_a_reader_that_remembers_hears_what_one_that_does_not_hears(headers: list[bytes], bodies: list[bytes]) -> None:
    remembering, forgetting = Heard(), Heard(remembers=False)
    for body in bodies:
        lines = [b"POST /v1/responses HTTP/1.1", b"host: a", *headers, b"Content-Length: %d" % len(body), b"", body]
        for heard in (remembering, forgetting):
            heard.feed(b"\r\n".join(lines))
    assert remembering.requests == forgetting.requests
    assert str(remembering.error) == str(forgetting.error)


MANY = [
    request(b"{}"),
    b"\r\nGET /livez?a=b HTTP/1.1\r\nhost: gateway\r\n\r\n",
    SDK.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    % b"1;a=b\r\nx\r\n02\r\nyz\r\n000\r\nt: u\r\n\r\n",
    request(b"GET /livez HTTP/1.1\r\n\r\n"),
]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.permutations(MANY), st.lists(st.integers(1, 700), max_size=12), st.sampled_from([b"", b"\n\r\n", b"x\n"]))
def test_how_the_bytes_are_cut_changes_nothing(sent: list[bytes], cuts: list[int], garbage: bytes) -> None:
    stream = b"".join(sent) + garbage
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    whole, cut, single = outcome(stream), outcome(*pieces), outcome(*[bytes([byte]) for byte in stream])
    assert len(whole[0]) == 4
    assert whole == cut == single


def test_a_head_without_an_end_is_refused() -> None:
    heard = Heard().feed(b"GET / HTTP/1.1\r\nx: ", *[b"x" * 1024] * 129)
    assert heard.error is not None
    assert (heard.error.status, heard.error.code) == (431, "headers_too_large")


def test_what_stands_before_a_head_in_one_piece_is_not_a_part_of_it() -> None:
    body = b"x" * 200_000
    heard = Heard().feed(request(body) + request(body)[:1000], request(body)[1000:] + request(body)[:40])
    assert (heard.error, heard.bodies) == (None, [body, body])
    assert heard.feed(request(body)[40:]).bodies == [body] * 3


@pytest.mark.parametrize(
    "beginning", [b"\x16\x03\x01", b"G\x00T", b"GET / HTTP/1.1\n", b"GET /livez\r\n", b"GET / HTTP/1.1\r\na: b\nc"]
)
def test_what_can_become_no_request_is_not_waited_for(beginning: bytes) -> None:
    assert Heard().feed(beginning).status == 400
    assert Heard().feed(*[bytes([byte]) for byte in beginning]).status == 400


class Counting(bytearray):
    """Counts the bytes that are searched in it."""

    looked = 0

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        type(self).looked += len(self) - start
        return super().find(what, start, end)


def test_a_head_that_comes_byte_by_byte_costs_by_its_length() -> None:
    heard = Heard().feed(b"GET / HTTP/1.1\r\nx: ")
    heard.reader._unread = Counting(heard.reader._unread)
    heard.feed(*[b"x"] * 20_000)
    assert 0 < Counting.looked < 20 * 20_000


def test_nothing_is_kept_of_a_request_that_was_read() -> None:
    heard = Heard().feed(request(b"x" * 100_000), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert len(heard.requests) == 2
    assert heard.reader._unread == b""
