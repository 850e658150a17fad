"""Requests are told apart the same way whether their head is parsed or known already."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.server.cycle import Cycle
from app.server.head import Head
from app.server.reader import RequestReader

SDK = (
    b"POST /v1/responses HTTP/1.1\r\nHost: gateway\r\nAccept: application/json\r\nConnection: keep-alive\r\n"
    b"Content-Type: application/json\r\nX-Stainless-Retry-Count: 0\r\nAuthorization: Bearer sk-aph_x\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


def request(body: bytes) -> bytes:
    return SDK % (len(body), body)


class BareCycle(Cycle):
    """A cycle whose connection nobody asks for anything."""

    def __init__(self, head: Head, body: bytes | None) -> None:
        super().__init__(None, head, body)  # type: ignore[arg-type]

    def feed(self, piece: bytes) -> None:
        self._body += piece

    @property
    def body(self) -> tuple[bytes, bool]:
        return bytes(self._body), self._is_whole


@dataclass
class Heard:
    """What a reader has told."""

    cycles: list[BareCycle] = field(default_factory=list)
    expecting: list[bool] = field(default_factory=list)
    is_busy: bool = False
    parsed: int = 0

    def __post_init__(self) -> None:
        self.reader = RequestReader(self._begin, lambda: self.is_busy)

    def _begin(self, head: Head, body: bytes | None, expects: bool) -> Cycle:
        self.cycles.append(BareCycle(head, body))
        self.expecting.append(expects)
        self.parsed += body is None
        return self.cycles[-1]

    def feed(self, *pieces: bytes) -> "Heard":
        for piece in pieces:
            self.reader.feed(piece)
        return self

    @property
    def told(self) -> list[tuple[Head, bytes, bool]]:
        return [(cycle.head, *cycle.body) for cycle in self.cycles]


def failure_of(heard: Heard, piece: bytes) -> str:
    try:
        heard.feed(piece)
    except InvalidRequestError as error:
        return error.message
    return ""


def outcome(*pieces: bytes) -> tuple[list[tuple[Head, bytes, bool]], str]:
    heard = Heard()
    failures = "".join([failure_of(heard, piece) for piece in pieces])
    return heard.told, failures


def test_a_head_that_comes_again_is_not_parsed() -> None:
    heard = Heard().feed(request(b"{}"), request(b'{"model":"demo"}'), request(b""))
    assert heard.parsed == 1
    assert [body for _, body, _ in heard.told] == [b"{}", b'{"model":"demo"}', b""]
    assert [head.text["content-length"] for head, _, _ in heard.told] == ["2", "16", "0"]
    assert all((b"content-length", head.text["content-length"].encode()) in head.headers for head, _, _ in heard.told)
    # Nobody's head changes while it is served.
    assert heard.told[0] == outcome(request(b"{}"))[0][0]


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
        b"GET /livez HTTP/1.1\r\n\r\n",
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
        request(b"{}").replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2] + b"2\r\n{}\r\n0\r\n\r\n",
        request(b"{}") + request(b"{}"),
        request(b"{}").replace(b"Accept: ", b"Accept: " + b"x" * 4096),
        b"\r\n" + request(b"{}"),
        b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n",
    ],
)
def test_a_request_that_is_more_than_a_head_and_a_body_is_not_remembered(first: bytes) -> None:
    heard = Heard()
    for _ in range(2):
        heard.feed(first)
    assert heard.parsed == len(heard.cycles) >= 1


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


@settings(max_examples=4 * settings().max_examples)
@given(
    headers=st.lists(HEADER, max_size=4),
    bodies=st.lists(
        st.sampled_from([b"", b"{}", b"a\r\n\r\nb", b"0\r\n\r\n", SDK % (1, b"x")]), min_size=1, max_size=4
    ),
)
def test_a_reader_that_remembers_hears_what_one_that_does_not_hears(headers: list[bytes], bodies: list[bytes]) -> None:
    sent = [
        b"\r\n".join([b"POST /v1/responses HTTP/1.1", *headers, b"Content-Length: %d" % len(body), b"", body])
        for body in bodies
    ]
    remembering, forgetting = Heard(), Heard()
    for one in sent:
        told = [failure_of(heard, one) for heard in (remembering, forgetting)]
        assert told[0] == told[1]
        forgetting.reader._remembered = None
    assert remembering.told == forgetting.told


def test_a_request_while_an_answer_is_under_way_is_parsed() -> None:
    heard = Heard().feed(request(b"{}"))
    heard.is_busy = True
    assert heard.feed(request(b"{}")).parsed == 2


def test_a_head_without_an_end_is_refused() -> None:
    heard = Heard()
    heard.feed(b"GET / HTTP/1.1\r\nx: ")
    with pytest.raises(InvalidRequestError, match="too large") as refused:
        heard.feed(*[b"x" * 1024] * 129)
    assert (refused.value.status, refused.value.code) == (431, "headers_too_large")
    assert heard.feed(b"\r\n\r\n").cycles == []


def test_a_client_that_waits_to_be_told_is_known() -> None:
    assert Heard().feed(b"POST / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 1\r\n\r\n").expecting == [True]


def test_what_asks_for_a_socket_is_handed_on_and_nothing_after_it() -> None:
    asked = b"GET /v1/responses HTTP/1.1\r\nconnection: Keep-Alive, Upgrade\r\nupgrade: WebSocket\r\n\r\n"
    heard = Heard()
    head = heard.reader.feed(asked)
    assert head is not None
    assert head.lower() == asked.lower()
    assert heard.feed(request(b"{}")).cycles == []
