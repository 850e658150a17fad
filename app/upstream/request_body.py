"""The body of one request, whole from the beginning. Must not know who sends it."""

from collections.abc import AsyncIterator

import httpx


class RequestBody(httpx.AsyncByteStream):
    """A stream of one chunk. Who knows it takes `content`, and is spared the reading."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content
