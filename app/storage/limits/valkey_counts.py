"""Count rate limits and streams in a Valkey or Redis server that all processes share.

The only module that imports the client library; itself imported only when such a server is configured.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from app.errors import StorageError
from app.runtime.deadline import Deadline
from app.state.limit_windows import Claim, Correction, Count, Key, Limit, Standing, Verdict, current, grant, standing
from app.storage.limits import valkey_scripts

_CONNECTIONS = 16
_AT_ONCE = 500
_SHOWN = 200

_log = structlog.get_logger("antiphon.limits")


class ValkeyCounts:
    """Count in the server of this URL (redis://, rediss:// or unix://), by its clock.

    `lease_seconds` is how long a stream outlives its process, `timeout` (seconds) bounds each request to the server.
    """

    def __init__(self, url: str, lease_seconds: float = 25.0, timeout: float = 1.0) -> None:
        # No retries: a failed request may have been done. One timeout bounds a whole request, so its parts have none.
        # Protocol 2 needs no handshake.
        self._client = Redis.from_url(
            url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=None
        )
        self._draw = self._client.register_script(valkey_scripts.DRAW)
        self._reconcile = self._client.register_script(valkey_scripts.RECONCILE)
        self._read = self._client.register_script(valkey_scripts.READ)
        self._renew = self._client.register_script(valkey_scripts.RENEW)
        self._lease_ms = int(lease_seconds * 1000)
        self._deadline = Deadline(timeout)
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._is_away = False
        self._held: dict[str, list[str]] = {}

    async def draw(self, claims: Sequence[Claim], stream: str) -> Verdict:
        """Grant all of these claims or none; `stream` is the id of the call's stream. Raises StorageError.

        After a StorageError the grant is unknown: it ends by itself, within a minute.
        """
        asked = [part for limit, amount in claims for part in (limit.unit, amount, limit.most)]
        limits = [claim.limit for claim in claims]
        now, counts = _counts(limits, await self._run(self._draw, _names(limits), (stream, self._lease_ms, *asked)))
        # The server's script has decided by these counts and by the same rule.
        verdict = grant(counts, claims, now)
        if verdict.refused is None and (held := [_name(limit) for limit in limits if limit.unit == "streams"]):
            self._held[stream] = held
        return verdict

    async def reconcile(self, corrections: Sequence[Correction], stream: str) -> None:
        """Correct what was drawn, and end this stream. Raises StorageError."""
        self._held.pop(stream, None)
        parts = [part for limit, amount, at in corrections for part in (limit.unit, amount, at)]
        await self._run(self._reconcile, _names(correction.limit for correction in corrections), (stream, *parts))

    async def read(self, limits: Collection[Limit]) -> list[Standing]:
        """Return how these limits stand. Raises StorageError."""
        answer = await self._run(self._read, _names(limits), [limit.unit for limit in limits])
        now, counts = _counts(limits, answer)
        return [standing(limit, counts[limit.key], now) for limit in limits]

    @property
    def renew_seconds(self) -> float:
        """Return the seconds between two renewals of this process's streams: a third of the lease."""
        return self._lease_ms / 3000

    async def renew(self) -> None:
        """Renew the leases of this process's streams. Raises StorageError."""
        held = [(name, stream) for stream, names in self._held.items() for name in names]
        for start in range(0, len(held), _AT_ONCE):
            names, streams = zip(*held[start : start + _AT_ONCE], strict=True)
            await self._run(self._renew, names, (self._lease_ms, *streams))
            # The end of a stream may have overtaken its renewal on another connection.
            for name, stream in zip(names, streams, strict=True):
                if stream not in self._held:
                    await self._run(self._reconcile, [name], (stream, "streams", 0, 0))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _run(self, script: AsyncScript, names: Sequence[str], arguments: Sequence[str | int]) -> Any:
        try:
            with self._deadline.block():
                async with self._turns:
                    answer = await script(keys=names, args=arguments)
        except (RedisError, OSError) as error:
            if not self._is_away:
                self._is_away = True
                _log.error("limits cannot be counted", cause=type(error).__name__, reason=str(error)[:_SHOWN])
            raise StorageError("Limits cannot be counted now. Try again in a moment.") from error
        if self._is_away:
            self._is_away = False
            _log.info("limits are counted again")
        return answer


def _name(limit: Limit) -> str:
    return f"antiphon:limits:{limit.owner}:{limit.name}"


def _names(limits: Iterable[Limit]) -> list[str]:
    return [_name(limit) for limit in limits]


def _counts(limits: Iterable[Limit], answer: tuple[int, list[tuple[int, int]]]) -> tuple[int, dict[Key, Count]]:
    now, counts = answer
    return now, {
        limit.key: current(None, limit, began_at)._replace(used=used)
        for limit, (used, began_at) in zip(limits, counts, strict=True)
    }
