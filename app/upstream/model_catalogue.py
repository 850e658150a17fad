"""List the models that the upstreams offer, for GET /models, from a cache for each upstream."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx
import orjson

from app.settings.upstreams import UpstreamSettings
from app.upstream.account import serves
from app.upstream.call.attempt import TransportOf
from app.upstream.faults.classification import TRANSPORT_ERRORS
from app.upstream.headers import request_headers
from app.upstream.pool.pool import Pool
from app.upstream.transport import Ask, UpstreamRequest

_TIMEOUT_SECONDS = 10.0
_MAX_LIST_BYTES = 8 * 1024 * 1024
_RETRY_SECONDS = 30.0

Models: TypeAlias = list[dict[str, Any]]


@dataclass(slots=True)
class _Shelf:
    """Cache the list of one upstream. The lock makes concurrent callers wait for one fetch."""

    upstream: UpstreamSettings
    models: Models
    fresh_until: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ModelCatalogue:
    """Merge the model lists of all upstreams; each is cached. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        pool: Pool,
        transport_of: TransportOf,
        cache_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._transport_of = transport_of
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}

    async def list(self) -> Models:
        """Return every model that a call may name, once; the first upstream wins. Never fails: an old list will do."""
        union: dict[str, dict[str, Any]] = {}
        for upstream in self._pool.upstreams:
            for model in await self._models(upstream):
                union.setdefault(model["id"], model)
        return [*union.values()]

    async def get(self, model_id: str) -> dict[str, Any] | None:
        """Return the model of this id, if an upstream offers it."""
        return next((model for model in await self.list() if model["id"] == model_id), None)

    async def _models(self, upstream: UpstreamSettings) -> Models:
        shelf = self._shelf(upstream)
        async with shelf.lock:
            if shelf.fresh_until <= self._clock():
                models = await self._fetch(upstream)
                if models is None:
                    shelf.fresh_until = self._clock() + min(_RETRY_SECONDS, self._cache_seconds)
                else:
                    shelf.models = models
                    shelf.fresh_until = self._clock() + self._cache_seconds
        return shelf.models

    def _shelf(self, upstream: UpstreamSettings) -> _Shelf:
        """Return the upstream's cached list; a new one where its settings have changed."""
        shelf = self._shelves.get(upstream.name)
        if shelf is None or shelf.upstream is not upstream:
            shelf = self._shelves[upstream.name] = _Shelf(upstream, _named_in_settings(upstream))
        return shelf

    async def _fetch(self, upstream: UpstreamSettings) -> Models | None:
        """Ask the upstream for its models and keep those that its globs match; None when it sends no list."""
        accounts = (a for a in self._pool.accounts() if a.upstream.name == upstream.name and not self._pool.rest(a))
        account = next(accounts, None)
        if account is None:
            return None
        headers = request_headers(account, stream=False)
        try:
            request = UpstreamRequest("GET", httpx.URL(f"{upstream.base_url}/models"), headers, _TIMEOUT_SECONDS)
            ask = self._transport_of(upstream).prepare(request)
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                body = await self._read(ask)
        except TRANSPORT_ERRORS:
            return None
        listed = _listed(body)
        return listed and [model for model in listed if serves(upstream, model["id"])]

    async def _read(self, ask: Ask) -> bytes:
        answer = await ask(b"", [])
        try:
            body = bytearray()
            while answer.is_success and (chunk := await answer.body.read()):
                body += chunk
                if len(body) > _MAX_LIST_BYTES:
                    return b""
            return bytes(body)
        finally:
            await answer.body.aclose()


def _named_in_settings(upstream: UpstreamSettings) -> Models:
    """List the models that the settings name in full (globs without a wildcard), without asking upstream."""
    return [
        {"id": glob, "object": "model", "created": 0, "owned_by": upstream.name}
        for glob in upstream.models
        if not set(glob) & set("*?[")
    ]


def _listed(body: bytes) -> Models | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        return None
    return [model for model in data if isinstance(model, dict) and isinstance(model.get("id"), str)]
