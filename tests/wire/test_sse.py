import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.wire.sse import KEEP_ALIVE, FrameSplitter, FrameTooLargeError, event_data, event_name, frame

NO_LIMIT = 1 << 40

_ENDS = (b"\n", b"\r\n", b"\r")
_PIECES = (b"event: a", b"data: 1", b":", b"\xff", "\u2028".encode(), "\u0085".encode(), b"\x0b\x0c", b" ")


@st.composite
def bodies(draw: st.DrawFn, *ends: bytes) -> bytes:
    """Lines of any text, each with one of these ends; most of the blank ones end a frame."""
    parts = draw(st.lists(st.tuples(st.sampled_from((b"", b"", *_PIECES)), st.sampled_from(ends)), max_size=20))
    return b"".join([part for pair in parts for part in pair]) + draw(st.sampled_from((b"", b"data: half", b"\xe2")))


@st.composite
def cut(draw: st.DrawFn, of: st.SearchStrategy[bytes]) -> list[bytes]:
    body = draw(of)
    places = sorted(draw(st.sets(st.integers(0, len(body)), max_size=12)))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


def split(chunks: list[bytes], limit: int = NO_LIMIT) -> tuple[list[bytes], bytes]:
    splitter = FrameSplitter(limit)
    frames = [frame for chunk in chunks for frame in splitter.feed(chunk)]
    return frames, splitter.rest


@settings(deadline=None)
@given(cut(bodies(*_ENDS)))
@example([b"data: 1\r", b"\r", b"\n", b"\n"])
@example([b"a\r\n\r", b"\nb\r\n", b"\r", b"\n"])
def test_frames_and_rest_are_together_what_was_fed(chunks: list[bytes]) -> None:
    frames, rest = split(chunks)
    assert b"".join(frames) + rest == b"".join(chunks)


@pytest.mark.parametrize("ends", [(b"\n",), (b"\r\n",), (b"\n", b"\r\n"), (b"\r",)], ids=repr)
def test_the_frames_are_the_same_for_every_chunking(ends: tuple[bytes, ...]) -> None:
    @settings(deadline=None)
    @given(cut(bodies(*ends)))
    def check(chunks: list[bytes]) -> None:
        whole, whole_rest = split([b"".join(chunks)])
        frames, rest = split(chunks)
        assert frames == whole
        assert rest == whole_rest

    check()


@settings(deadline=None)
@given(cut(bodies(*_ENDS)))
def test_a_stream_that_mixes_bare_cr_and_crlf_has_the_same_lines_for_every_chunking(chunks: list[bytes]) -> None:
    # A CRLF that follows a bare CR may be cut in two: the LF then opens the next frame, where it is a blank line.
    def fields(frames: list[bytes]) -> list[tuple[bytes, bytes]]:
        return [read for frame in frames if (read := (event_name(frame), event_data(frame))) != (b"", b"")]

    whole, _ = split([b"".join(chunks), b"\n\n"])
    frames, _ = split([*chunks, b"\n\n"])
    assert fields(frames) == fields(whole)


@pytest.mark.parametrize("end", _ENDS)
def test_a_frame_leaves_as_soon_as_its_blank_line_is_whole(end: bytes) -> None:
    splitter = FrameSplitter(NO_LIMIT)
    assert splitter.feed(b"data: 1" + end) == []
    assert splitter.feed(end) == [b"data: 1" + end + end]
    assert splitter.rest == b""


def test_a_blank_line_is_not_taken_before_its_last_byte_could_have_come() -> None:
    splitter = FrameSplitter(NO_LIMIT)
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert splitter.feed(b"\ndata: 2") == [b"data: 1\r\n\r\n"]


def test_characters_that_only_unicode_calls_line_ends_do_not_end_a_line() -> None:
    body = "data: a\u2028\u2028b\u0085\u0085c\x0b\x0b\x0c\x0c\n\n".encode()
    assert split([body]) == ([body], b"")
    assert event_data(body) == body.removeprefix(b"data: ").rstrip(b"\n")


def test_several_frames_in_one_chunk_come_out_one_by_one() -> None:
    assert split([b"data: 1\n\ndata: 2\n\ndata: 3"]) == ([b"data: 1\n\n", b"data: 2\n\n"], b"data: 3")


@pytest.mark.parametrize("size", [1, 1000, 8192])
def test_a_frame_of_megabytes_is_scanned_once_whatever_its_chunks(size: int) -> None:
    # Each chunk looked at again from the frame's beginning would be 10^9 bytes and more: far beyond the time limit.
    body = b"data: " + b"x" * (4_000_000 if size > 1 else 400_000) + b"\n\n"
    frames, rest = split([body[place : place + size] for place in range(0, len(body), size)])
    assert (frames, rest) == ([body], b"")


def test_a_frame_beyond_the_limit_is_refused_while_it_is_still_open() -> None:
    splitter = FrameSplitter(16)
    assert splitter.feed(b"data: 0123456789") == []
    with pytest.raises(FrameTooLargeError):
        splitter.feed(b"a")


def test_the_frames_before_one_that_is_too_large_come_out_first() -> None:
    splitter = FrameSplitter(16)
    assert splitter.feed(b"data: 1\n\ndata: " + b"x" * 20) == [b"data: 1\n\n"]
    assert splitter.rest == b"data: " + b"x" * 20
    with pytest.raises(FrameTooLargeError):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("raw", "name", "data"),
    [
        (b"event: a\ndata: 1\n\n", b"a", b"1"),
        (b"data: 1\n\n", b"", b"1"),
        (b"data:1\n\n", b"", b"1"),
        (b"data: 1\r\n\r\n", b"", b"1"),
        (b"data: 1\rdata: 2\n\n", b"", b"1\n2"),
        (b"data: 1\n", b"", b"1"),
        (b"data: 1", b"", b"1"),
        (b"data: \n\n", b"", b""),
        (b"event:a\ndata:1\n\n", b"a", b"1"),
        (b"event:  a\ndata:  1\n\n", b" a", b" 1"),
        (b"event: a\r\ndata: 1\r\n\r\n", b"a", b"1"),
        (b"event: a\rdata: 1\r\r", b"a", b"1"),
        (b"event: a\rdata: 1\n\n", b"a", b"1"),
        (b"\xef\xbb\xbfevent: a\ndata: 1\n\n", b"a", b"1"),
        (b"\xef\xbb\xbfdata: 1\n\n", b"", b"1"),
        (b"data: 1\nevent: a\n\n", b"a", b"1"),
        (b": event: b\nevent: a\ndata: 1\n\n", b"a", b"1"),
        (b"data: {\ndata: }\n\n", b"", b"{\n}"),
        (b"data\ndata\n\n", b"", b"\n"),
        (b"event\ndata: 1\n\n", b"", b"1"),
        (b"events: a\ndata1: 1\n event: a\n\n", b"", b""),
        (b"\ndata: 1\n\n", b"", b"1"),
        (b"event: a", b"a", b""),
        (b": keep-alive\n\n", b"", b""),
        (b"\n\n", b"", b""),
        (b"", b"", b""),
    ],
)
def test_an_event_has_the_name_and_the_data_of_its_fields(raw: bytes, name: bytes, data: bytes) -> None:
    assert event_name(raw) == name
    assert event_data(raw) == data


def test_a_frame_of_our_own_reads_back_as_it_was_meant() -> None:
    made = frame("response.failed", b'{"a":1}')
    assert split([made]) == ([made], b"")
    assert (event_name(made), event_data(made)) == (b"response.failed", b'{"a":1}')


def test_a_keep_alive_is_a_whole_frame_without_an_event() -> None:
    assert split([KEEP_ALIVE]) == ([KEEP_ALIVE], b"")
    assert (event_name(KEEP_ALIVE), event_data(KEEP_ALIVE)) == (b"", b"")


@settings(deadline=None)
@example([b"data: 1", b"\n\n"])
@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\n\n", b"data: 1"]), max_size=8))
def test_a_chunk_that_is_a_frame_is_one_however_it_is_fed(pieces: list[bytes]) -> None:
    chunk = b"".join(pieces)
    in_pieces = FrameSplitter(1000)
    frames = [frame for piece in pieces for frame in in_pieces.feed(piece)]
    if FrameSplitter(1000).is_frame(chunk):
        assert (frames, in_pieces.rest) == ([chunk], b"")


def test_no_chunk_is_a_frame_after_the_beginning_of_one_or_where_lines_end_otherwise() -> None:
    splitter = FrameSplitter(1000)
    assert splitter.is_frame(b"data: 1\n\n")
    splitter.feed(b"data:")
    assert not splitter.is_frame(b" 1\n\n")
    assert splitter.feed(b" 1\n\n") == [b"data: 1\n\n"]
    assert splitter.is_frame(b"data: 1\n\n")
    splitter.feed(b"data: 1\r\n\r\n")
    assert not splitter.is_frame(b"data: 1\n\n")
