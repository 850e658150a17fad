"""Bodies as clients compress them."""

import gzip
import sys
from collections.abc import Callable, Mapping

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Pack = Callable[[bytes], bytes]

PACKERS: Mapping[str, Pack] = {"gzip": gzip.compress, "zstd": zstd.compress}
BOTH = pytest.mark.parametrize(("encoding", "pack"), PACKERS.items(), ids=PACKERS)


def with_window(log: int, body: bytes) -> bytes:
    """By zstd, from which a reader has to remember 2 to the power of `log` bytes."""
    parameters = zstd.CompressionParameter
    options: dict[int, int] = {parameters.window_log: log, parameters.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(body) + compressor.flush()
