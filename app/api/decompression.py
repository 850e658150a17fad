"""Decompress a request body in bounded steps, so that a small body never becomes more than may be held."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from app.errors import InvalidRequestError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# The window that a zstd decoder has to support, and beyond which it may refuse (RFC 9659): 8 MiB.
_LARGEST_WINDOW_LOG = 23
_GZIP_BITS = 16 + zlib.MAX_WBITS


class _Decompressor(Protocol):
    """Describe a decompressor of the standard library. `unused_data` is what stood behind the end of its stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: memoryview | bytes, max_length: int) -> bytes: ...


class _Gzip:
    """Give zlib's decompressor the interface of the standard library's other ones."""

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
"""The content encodings that are accepted, in lower case."""


class Decompression:
    """Decompress one body, a step at a time."""

    def __init__(self, encoding: str, packed: bytes) -> None:
        self._encoding = encoding
        self._decompressor = _DECOMPRESSORS[encoding]()
        self._packed = memoryview(packed)
        self._given = 0

    @property
    def is_over(self) -> bool:
        """Tell whether the whole body is decompressed."""
        return self._decompressor.eof

    def step(self, most: int) -> bytes:
        """Decompress at most `most` bytes, and return at most as many. Raises InvalidRequestError for a broken stream.

        Both are bounded: a stream may have millions of empty blocks.
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
