"""Unpack a compressed request body in bounded steps, so that a small body never becomes more than may be held."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from app.errors import InvalidRequestError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What a zstd decoder has to support, and may refuse beyond (RFC 9659): 8 MiB of what came before.
_LARGEST_WINDOW_LOG = 23
_GZIP_BITS = 16 + zlib.MAX_WBITS


class _Decompressor(Protocol):
    """A decompressor as the standard library has them. `unused_data` is what stood behind the end of its stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: memoryview | bytes, max_length: int) -> bytes: ...


class _Gzip:
    """The standard library's zlib in the form that its other decompressors have."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_BITS)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: memoryview | bytes, max_length: int) -> bytes:
        return self._inflate.decompress(data or self._inflate.unconsumed_tail, max_length)


def _zstd() -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW_LOG})


_DECOMPRESSORS: Mapping[str, Callable[[], _Decompressor]] = {"gzip": _Gzip, "x-gzip": _Gzip, "zstd": _zstd}
ENCODINGS = frozenset(_DECOMPRESSORS)
"""The content encodings that are taken, by their lower-case names."""


class Unpacking:
    """One body as it is unpacked, a step at a time."""

    def __init__(self, encoding: str, packed: bytes) -> None:
        self._encoding = encoding
        self._decompressor = _DECOMPRESSORS[encoding]()
        self._packed = memoryview(packed)
        self._given = 0

    @property
    def is_over(self) -> bool:
        """Whether all of it is unpacked."""
        return self._decompressor.eof

    def step(self, most: int) -> bytes:
        """Take so many bytes of it at most, and return so many at most. Raises InvalidRequestError for what is wrong.

        Both are bounded: there are streams of millions of blocks with nothing in them.
        """
        decompressor = self._decompressor
        piece: memoryview | bytes = b""
        if decompressor.needs_input:
            piece = self._packed[self._given : self._given + most]
            self._given += len(piece)
        try:
            unpacked = decompressor.decompress(piece, most)
        except (zlib.error, zstd.ZstdError):
            raise self._broken() from None
        is_all_given = self._given == len(self._packed)
        if decompressor.eof:
            if decompressor.unused_data or not is_all_given:
                raise self._broken()
        elif not unpacked and not piece and is_all_given:
            raise self._broken()
        return unpacked

    def _broken(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"The request body could not be unpacked: it is not one whole stream of '{self._encoding}', as the header "
            "'Content-Encoding' says.",
            code="invalid_content_encoding",
        )
