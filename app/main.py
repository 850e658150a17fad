"""The composition root: everything is built here, once, in order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from app.api.gateway import Gateway
from app.api.services import Services
from app.auth import Authenticator, KeyHasher
from app.demo.answer import answer
from app.relay.archive import Archive
from app.relay.background import Background
from app.relay.compaction import Compactor
from app.relay.conductor import Conductor
from app.relay.context_calls import ContextCalls
from app.relay.conversation import Conversations
from app.relay.ledger import Ledger
from app.relay.limiter import Limiter
from app.relay.meter import Meter
from app.relay.registry import Registry
from app.relay.resume import LogReader
from app.relay.serve import Relay
from app.relay.settle import Settler
from app.relay.stage import Stage
from app.sealing import Sealer
from app.settings import Settings, UpstreamSettings
from app.storage.conversation_store import ConversationStore
from app.storage.database import Database
from app.storage.hold_store import HoldStore
from app.storage.key_store import KeyStore
from app.storage.purge import purge_forever
from app.storage.response_store import ResponseStore
from app.storage.run_store import RunStore
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
    open_conversations = Conversations(HoldStore(database, writer))
    runs = RunStore(database, writer)
    keys = KeyStore(database, writer)
    registry = Registry(settings.server.max_concurrent_requests)

    upstreams = upstreams_of(settings)
    network = network_transport(settings.relay.transport, settings.relay.max_upstream_connections)
    transports: Mapping[str, httpx.AsyncBaseTransport] = {
        upstream.name: InProcessTransport(answer) if upstream is DEMO else network for upstream in upstreams
    }
    pool = Pool(upstreams, settings.relay.cool_down_seconds)
    upstream = UpstreamClient(pool, transports, settings.relay)
    archive = Archive(responses, runs, upstream, settings.relay.max_answer_bytes)
    keeping_upstreams = frozenset(upstream.name for upstream in upstreams if upstream.state == "upstream")
    sealer = Sealer(secret)
    compactor = Compactor(upstream, sealer, settings.relay.max_answer_bytes)

    meter = Meter(Limiter(), Ledger())
    settler = Settler(storage.retention_days)
    relay = Relay(
        upstream=upstream,
        memory=archive,
        conversations=open_conversations,
        registry=registry,
        settler=settler,
        settings=settings.relay,
        write_timeout_seconds=settings.server.write_timeout_seconds,
        keeping_upstreams=keeping_upstreams,
        sealer=sealer,
        compactor=compactor,
        meter=meter,
    )
    stage = Stage(
        runs=runs,
        memory=archive,
        conversations=open_conversations,
        keys=keys,
        upstream=upstream,
        settler=settler,
        sealer=sealer,
        compactor=compactor,
        meter=meter,
        registry=registry,
        relay=settings.relay,
        background=settings.background,
        max_json_depth=settings.server.max_json_depth,
        keeping_upstreams=keeping_upstreams,
    )
    conductor = Conductor(stage, is_alone=storage.is_sqlite)

    services = Services(
        limits=settings.server,
        database=database,
        responses=responses,
        conversations=ConversationStore(database, writer),
        open_conversations=open_conversations,
        authenticator=Authenticator(keys, KeyHasher(secret), storage.key_cache_seconds),
        catalogue=ModelCatalogue(pool, transports, settings.relay.models_cache_seconds),
        registry=registry,
        relay=relay,
        archive=archive,
        background=Background(
            stage,
            archive,
            conductor,
            LogReader(runs, conductor),
            relay,
            write_timeout_seconds=settings.server.write_timeout_seconds,
        ),
        context_calls=ContextCalls(
            upstream=upstream,
            memory=archive,
            conversations=open_conversations,
            registry=registry,
            compactor=compactor,
            meter=meter,
            sealer=sealer,
            settings=settings.relay,
            write_timeout_seconds=settings.server.write_timeout_seconds,
            keeping_upstreams=keeping_upstreams,
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        registry.spawn(purge_forever(responses, runs, storage.purge_interval_seconds))
        registry.spawn(conductor.conduct_forever())
        registry.spawn(open_conversations.extend_forever())
        try:
            yield
        finally:
            await registry.aclose()
            await network.aclose()
            await writer.aclose()
            await database.aclose()

    return Gateway(services, lifespan=lifespan)
