"""The names of a test: what the loop's look-ups say of them, which may be another thing each time."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest


class Names:
    """Answers for the names in `addresses`, with all that they have there; other hosts are looked up as ever.

    `asked` has the hosts that were looked up, whoever answered.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        loop = asyncio.get_running_loop()
        self._look_up = loop.getaddrinfo
        patch.setattr(loop, "getaddrinfo", self._answer)

    async def _answer(self, host: Any, port: Any, **how: Any) -> Any:
        self.asked.append(host)
        if host not in self.addresses:
            return await self._look_up(host, port, **how)
        return [
            entry
            for address in self.addresses[host]
            for entry in socket.getaddrinfo(address, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        ]
