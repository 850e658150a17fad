"""The composition root: everything is built here, once, in order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from app.api.gateway import Gateway
from app.api.services import Services
from app.auth import Authenticator, KeyHasher
from app.demo.answer import answer
from app.relay.registry import Registry
from app.relay.serve import Relay
from app.relay.settle import Settler
from app.settings import Settings, UpstreamSettings
from app.storage.database import Database
from app.storage.key_store import KeyStore
from app.storage.purge import purge_forever
from app.storage.response_store import ResponseStore
from app.storage.writer import Writer
from app.upstream.connect import UpstreamClient
from app.upstream.models import ModelCatalogue
from app.upstream.pool import Pool
from app.upstream.transport import InProcessTransport, network_transport

# It serves its own model and no other: it never stands in for a real one.
DEMO = UpstreamSettings(name="demo", base_url="http://demo.invalid", models=("demo",))


def upstreams_of(settings: Settings) -> tuple[UpstreamSettings, ...]:
    """The upstreams that are served: those configured, else the demo."""
    return settings.upstreams or (DEMO,)


def create_app(settings: Settings, secret: bytes) -> Gateway:
    """Build the gateway. The database must have the current schema; connections open when the app starts."""
    storage = settings.storage
    database = Database(storage.url, storage.pool_size, storage.commit_timeout_seconds)
    writer = Writer(database, storage.commit_timeout_seconds)
    responses = ResponseStore(database, writer)
    registry = Registry(settings.server.max_concurrent_requests)

    upstreams = upstreams_of(settings)
    network = network_transport(settings.relay.transport, settings.relay.max_upstream_connections)
    transports: Mapping[str, httpx.AsyncBaseTransport] = {
        upstream.name: InProcessTransport(answer) if upstream is DEMO else network for upstream in upstreams
    }
    pool = Pool(upstreams, settings.relay.cool_down_seconds)

    services = Services(
        limits=settings.server,
        database=database,
        responses=responses,
        authenticator=Authenticator(KeyStore(database, writer), KeyHasher(secret), storage.key_cache_seconds),
        catalogue=ModelCatalogue(pool, transports, settings.relay.models_cache_seconds),
        registry=registry,
        relay=Relay(
            upstream=UpstreamClient(pool, transports, settings.relay),
            memory=responses,
            registry=registry,
            settler=Settler(storage.retention_days),
            settings=settings.relay,
            write_timeout_seconds=settings.server.write_timeout_seconds,
            keeping_upstreams=frozenset(upstream.name for upstream in upstreams if upstream.state == "upstream"),
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        registry.spawn(purge_forever(responses, storage.purge_interval_seconds))
        try:
            yield
        finally:
            await registry.aclose()
            await network.aclose()
            await writer.aclose()
            await database.aclose()

    return Gateway(services, lifespan=lifespan)
