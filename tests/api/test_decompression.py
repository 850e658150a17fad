"""A compressed body: unpacked in bounded steps, counted by what it comes to, and refused when it is not whole."""

import gzip
import zlib
from typing import Any

import orjson
import pytest

from app.api import request_body
from app.api.decompression import Decompression
from app.api.request_body import BodyReader
from app.errors import InvalidRequestError, OverloadedError
from app.runtime.byte_budget import ByteBudget
from app.runtime.compute_thread import ComputeThread
from app.settings.server import ServerSettings
from tests.fakes.compressed import BOTH, Pack, with_window

MIB = 1024 * 1024


def steps(encoding: str, packed: bytes, most: int) -> list[bytes]:
    unpacking, pieces = Decompression(encoding, packed), list[bytes]()
    while not unpacking.is_over:
        pieces.append(unpacking.step(most))
    return pieces


async def read(packed: bytes, encoding: str, budget: ByteBudget | None = None, **limits: Any) -> bytes:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": packed, "more_body": False}

    headers = {"content-type": "application/json", "content-encoding": encoding}
    budget = budget or ByteBudget(1 << 30)
    with budget.reservation("a") as held:
        return await BodyReader(ServerSettings(**limits), budget, ComputeThread()).read(
            lambda body, _: body, {**headers, "content-length": str(len(packed))}, receive, held
        )


@BOTH
@pytest.mark.parametrize("most", [1, 7, 4096])
def test_no_step_returns_more_than_it_may(encoding: str, pack: Pack, most: int) -> None:
    sent = orjson.dumps({"input": [str(number) for number in range(300)], "zeros": "0" * 3000})
    pieces = steps(encoding, pack(sent), most)
    assert b"".join(pieces) == sent
    assert max(map(len, pieces)) <= most


def test_no_step_takes_in_more_than_it_may() -> None:
    # A million blocks with nothing in them.
    empty = zlib.compress(b"", wbits=31)[:10] + b"\0\0\0\xff\xff" * 1_000_000
    unpacking = Decompression("gzip", empty)
    assert unpacking.step(4096) == b""
    assert unpacking._given == 4096


@BOTH
@pytest.mark.parametrize("size", [0, 1, 5000, 3 * MIB])
async def test_a_body_is_read_as_what_it_was_before(encoding: str, pack: Pack, size: int) -> None:
    sent = b"x" * size
    assert await read(pack(sent), encoding) == sent
    assert await read(pack(sent), encoding.upper()) == sent


async def test_a_body_that_is_said_not_to_be_compressed_is_not_unpacked() -> None:
    assert await read(b"plain", "Identity") == b"plain"


@BOTH
@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: packed[:-1],
        lambda packed: packed + b"x",
        lambda packed: packed * 2,
        lambda _: b"",
        lambda _: b"{}",
    ],
    ids=["truncated", "more behind it", "twice", "nothing", "plain"],
)
async def test_what_is_no_whole_stream_is_refused(encoding: str, pack: Pack, spoil: Pack) -> None:
    for sent in (b'{"model":"m"}', b"x" * 200_000, bytes(range(256)) * 900):
        with pytest.raises(InvalidRequestError) as refused:
            await read(spoil(pack(sent)), encoding)
        assert (refused.value.status, refused.value.code) == (400, "invalid_content_encoding")


async def test_a_window_beyond_what_the_encoding_may_ask_for_is_refused() -> None:
    packed = with_window(27, b"x" * 1000)
    with pytest.raises(InvalidRequestError) as refused:
        await read(packed, "zstd")
    assert refused.value.code == "invalid_content_encoding"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "identity, gzip", "zstd;q=1", "nothing"])
async def test_an_encoding_that_is_not_taken_is_refused_with_those_that_are(encoding: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await read(b"{}", encoding)
    assert (refused.value.status, refused.value.code) == (415, "unsupported_content_encoding")
    assert refused.value.headers == {"accept-encoding": "gzip, zstd"}


@BOTH
async def test_the_limit_is_of_what_a_body_comes_to(encoding: str, pack: Pack) -> None:
    for most in (1000, 100_000, 2 * MIB):
        assert len(await read(pack(b" " * most), encoding, max_body_bytes=most)) == most
        with pytest.raises(InvalidRequestError) as refused:
            await read(pack(b" " * (most + 1)), encoding, max_body_bytes=most)
        assert (refused.value.status, refused.value.code) == (413, "request_too_large")


@BOTH
async def test_what_is_unpacked_is_held_in_the_budget_before_it_is_there(encoding: str, pack: Pack) -> None:
    packed = pack(b" " * (8 * MIB))
    budget = ByteBudget(4 * MIB)
    with budget.reservation("b") as other:
        await other.add(2 * MIB)
        with pytest.raises(OverloadedError):
            await read(packed, encoding, budget)
    assert budget.held == 0


async def test_a_bomb_is_unpacked_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int] = []

    class Counted(Decompression):
        def step(self, most: int) -> bytes:
            piece = super().step(most)
            unpacked.append(len(piece))
            return piece

    monkeypatch.setattr(request_body, "Decompression", Counted)
    with pytest.raises(InvalidRequestError, match="too large"):
        await read(gzip.compress(b"\0" * (64 * MIB)), "gzip", max_body_bytes=3 * MIB)
    assert sum(unpacked) < 5 * MIB


async def test_what_is_large_is_unpacked_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(ComputeThread):
        async def run(self, size: int, work: Any, *args: Any, **kwargs: Any) -> Any:
            sizes.append(size)
            return await super().run(size, work, *args, **kwargs)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": gzip.compress(b" " * (3 * MIB)), "more_body": False}

    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    budget = ByteBudget(1 << 30)
    with budget.reservation("a") as held:
        await BodyReader(ServerSettings(), budget, Watched()).read(lambda body, _: len(body), headers, receive, held)
        # What it comes to is held, as a plain body's bytes are.
        assert 3 * 3 * MIB <= held.held <= 3 * 3 * MIB + MIB
    assert sizes[:3] == [MIB] * 3
