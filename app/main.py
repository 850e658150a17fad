"""The composition root: everything is built here, once, in order."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from fastapi import FastAPI

from app.administration.audit import Audit
from app.administration.keys import Keys
from app.administration.projects import Projects
from app.administration.settings import effective
from app.administration.upstreams import Upstreams
from app.api.addresses import Addresses
from app.api.gateway import Gateway
from app.api.intake import Intake
from app.api.services import Services
from app.auth import Authenticator, KeyHasher, MasterKey, mint_key
from app.byte_budget import ByteBudget
from app.demo.answer import answer
from app.memory_limit import Allocator, budget_bytes
from app.offload import Offload
from app.relay.archive import KEEP_SECONDS, Archive
from app.relay.background import Background
from app.relay.compaction import Compactor
from app.relay.conductor import Conductor
from app.relay.context_calls import ContextCalls
from app.relay.conversation import Conversations
from app.relay.duties import Duties, Duty
from app.relay.idempotency import RENEW_SECONDS, Idempotency
from app.relay.keeper import Changes, Keeper
from app.relay.ledger import RECOVERY_SECONDS, Ledger
from app.relay.limiter import Limiter
from app.relay.log_signals import LogSignals
from app.relay.meter import Meter
from app.relay.prices import Prices
from app.relay.readiness import Readiness
from app.relay.registry import Registry
from app.relay.reload import Reload
from app.relay.resume import LogReader
from app.relay.roster import DEMO, DEMO_PRICE, Roster
from app.relay.serve import Relay
from app.relay.settle import Settler
from app.relay.stage import Stage
from app.sealing import KeyRing, Sealer, Vault
from app.settings import Settings, read_again
from app.settings_upstream import UpstreamSettings
from app.state.upstreams import NOTHING_STORED
from app.storage.audit_store import AuditStore
from app.storage.condition_store import ConditionStore
from app.storage.conversation_store import ConversationStore
from app.storage.database import Database
from app.storage.health_check import HealthCheck
from app.storage.hold_store import HoldStore
from app.storage.idempotency_store import IdempotencyStore
from app.storage.key_store import KeyStore
from app.storage.key_uses import WRITE_SECONDS, KeyUses
from app.storage.limit_counting import LimitCounting
from app.storage.limit_store import LimitStore
from app.storage.notifications import Notifications
from app.storage.project_erasure import ProjectErasure
from app.storage.project_store import ProjectStore
from app.storage.purge import Purge
from app.storage.response_store import ResponseStore
from app.storage.retention import Retention
from app.storage.run_store import RunStore
from app.storage.upstream_store import UpstreamStore
from app.storage.usage_store import UsageStore
from app.storage.writer import Writer
from app.throttle import Throttle
from app.upstream.account import are_strict
from app.upstream.connect import UpstreamClient
from app.upstream.models import ModelCatalogue
from app.upstream.networks import Networks
from app.upstream.pool import Pool
from app.upstream.transport import InProcessTransport, Transport

_log = structlog.get_logger("antiphon.memory")
# Between two looks for settlements of budgets that failed.
_OWED_SECONDS = 1.0
_CLOCK_SECONDS = 60
_ERASURE_SECONDS = 2
_PROJECT_ERASURE_SECONDS = 5


def create_app(settings: Settings, ring: KeyRing) -> Gateway:
    """Build the gateway. The database is not asked before `open`, and must have the current schema by then."""
    storage = settings.storage
    database = Database(storage.url, storage.pool_size, storage.commit_timeout_seconds)
    writer = Writer(database, storage.commit_timeout_seconds)
    readiness, registry, offload = Readiness(), _registry(settings), Offload()
    responses = ResponseStore(database, writer, offload)
    open_conversations = Conversations(HoldStore(database, writer), offload)
    runs = RunStore(database, writer)
    signals = LogSignals(runs, None if storage.is_sqlite else Notifications(storage.url, database))
    keys, projects = KeyStore(database, writer), ProjectStore(database)
    hasher, uses = KeyHasher(ring), KeyUses(keys)
    authenticator = Authenticator(
        keys, hasher, uses, storage.key_cache_seconds, Throttle(settings.access.failed_keys_per_minute)
    )
    audit = Audit(AuditStore(database, writer))

    vault = Vault(ring)
    roster = Roster(settings.upstreams, vault)
    networks = Networks(
        settings.relay.transport,
        settings.relay.max_upstream_connections,
        allow_private=settings.relay.allow_private_upstreams,
    )
    demo = InProcessTransport(answer)

    def transport_of(upstream: UpstreamSettings) -> Transport:
        return demo if upstream is DEMO else networks.to(upstream)

    changes = Changes()
    pool = Pool(
        roster.upstreams(NOTHING_STORED),
        settings.relay.cool_down_seconds,
        on_change=changes.note,
        is_alone=storage.is_sqlite,
        wait_seconds=settings.relay.pool_wait_seconds,
        most_waiting=settings.relay.max_waiting_calls,
    )
    conditions, stored_upstreams = ConditionStore(database, writer), UpstreamStore(database, writer)
    keeper = Keeper(pool, changes, roster, conditions, stored_upstreams, is_alone=storage.is_sqlite)
    upstream = UpstreamClient(pool, transport_of, settings.relay, offload)
    archive = Archive(responses, runs, upstream, settings.relay.max_answer_bytes)
    sealer = Sealer(ring)
    compactor = Compactor(upstream, sealer, settings.relay.max_answer_bytes, offload)

    prices = Prices((*settings.prices, DEMO_PRICE), lambda: pool.upstreams)
    usage = UsageStore(database, writer)
    ledger = Ledger(usage, prices, is_alone=storage.is_sqlite)
    limits = LimitCounting(settings.limits, LimitStore(database, writer), is_alone=storage.is_sqlite)
    limiter = Limiter(limits.counts, prices, offload, allows_unpriced=settings.limits.allow_unpriced_models)
    meter = Meter(limiter, ledger, offload)
    settler = Settler(storage.retention_days, offload, database.clock.now)
    relay = Relay(
        upstream=upstream,
        memory=archive,
        conversations=open_conversations,
        registry=registry,
        settler=settler,
        settings=settings.relay,
        keeping_upstreams=roster.keeping,
        sealer=sealer,
        compactor=compactor,
        meter=meter,
        offload=offload,
        max_context_bytes=settings.memory.max_context_bytes,
    )
    stage = Stage(
        runs=runs,
        signals=signals,
        memory=archive,
        conversations=open_conversations,
        keys=keys,
        upstream=upstream,
        settler=settler,
        sealer=sealer,
        compactor=compactor,
        meter=meter,
        registry=registry,
        offload=offload,
        relay=settings.relay,
        background=settings.background,
        max_json_depth=settings.server.max_json_depth,
        max_context_bytes=settings.memory.max_context_bytes,
        keeping_upstreams=roster.keeping,
    )
    conductor = Conductor(stage, is_alone=storage.is_sqlite)

    reload = Reload(settings, read_again, keeper)
    services = Services(
        limits=settings.server,
        intake=Intake(settings.server, registry.budget, offload),
        offload=offload,
        health=HealthCheck(database),
        responses=responses,
        conversations=ConversationStore(database, writer),
        open_conversations=open_conversations,
        addresses=Addresses(settings.server.trusted_proxies, settings.access.client_address_header),
        authenticator=authenticator,
        master_key=MasterKey(settings.server.admin_key),
        projects=Projects(
            projects,
            audit,
            Retention(database, writer, storage.retention_days),
            ProjectErasure(database, writer),
            changed=authenticator.forget,
        ),
        keys=Keys(keys, projects, audit, mint=mint_key, hash_of=hasher.hash, changed=authenticator.forget),
        audit=audit,
        upstreams=Upstreams(
            stored_upstreams,
            audit,
            vault,
            pool,
            configured=lambda: roster.configured,
            test=upstream.test,
            changed=keeper.wake,
            reach=networks.reach,
        ),
        settings=lambda: effective(settings, reload.latest),
        catalogue=ModelCatalogue(pool, transport_of, settings.relay.models_cache_seconds),
        readiness=readiness,
        registry=registry,
        duties=Duties(registry),
        reload=reload,
        relay=relay,
        archive=archive,
        background=Background(stage, archive, conductor, LogReader(runs, signals, conductor, registry), relay),
        idempotency=Idempotency(
            IdempotencyStore(database, writer, settings.limits), registry, limiter, settings=settings.relay
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
            keeping_upstreams=roster.keeping,
            offload=offload,
            max_context_bytes=settings.memory.max_context_bytes,
        ),
        usage=usage,
        limiter=limiter,
        is_strict=lambda model: are_strict(pool.upstreams, model),
    )

    services.duties.add(
        Duty("log file", database.lengthen_log, None),
        Duty("prices", prices.load, None),
        Duty("pool sync", keeper.keep, 0),
        Duty("background runs", conductor.conduct, 0),
        Duty("idempotency leases", services.idempotency.renew, RENEW_SECONDS),
        *signals.duties,
        Duty("conversation leases", open_conversations.extend, open_conversations.extend_seconds),
        *(Duty(f"stream leases {n}", leased.renew, leased.renew_seconds) for n, leased in enumerate(limits.leased, 1)),
        Duty("owed settlements", limits.store.settle_owed, _OWED_SECONDS),
        Duty("ledger", ledger.flush_when_due, 0),
        Duty("ledger recovery", ledger.recover, RECOVERY_SECONDS),
        Duty("key uses", uses.write, WRITE_SECONDS),
        Duty("clock", database.check_clock, _CLOCK_SECONDS),
        Duty("log erasure", database.finish_erasure, _ERASURE_SECONDS),
        Duty("continued turns", lambda: archive.keep_all(registry.continued), KEEP_SECONDS),
        Duty("retention", services.projects.shorten_marked, storage.purge_interval_seconds),
        Duty("project erasure", services.projects.erase_marked, _PROJECT_ERASURE_SECONDS),
        *(
            Duty(f"purge of {what}", step, storage.purge_interval_seconds)
            for what, step in Purge(
                database, writer, runs, usage, limits.store, idempotency=services.idempotency.store, settings=storage
            ).steps.items()
        ),
    )

    # What is in front uses what is behind it.
    closing = tuple(each.aclose for each in (registry, signals, ledger, networks, limits, uses, writer, database))
    return Gateway(services, _opening((database.tell_time, keeper.load), services), lifespan=_lifespan(closing))


def _opening(loads: Iterable[Callable[[], Awaitable[object]]], services: Services) -> Callable[[], Awaitable[None]]:
    """What has the app serve, once its database is there: what is kept is loaded, and its duties go on from then."""

    async def open_() -> None:
        for load in loads:
            await load()
        services.duties.start()
        services.readiness.serves()

    return open_


def _registry(settings: Settings) -> Registry:
    """Who admits calls, with the account of the bytes that they hold."""
    memory = settings.memory
    max_bytes = memory.max_buffered_bytes or budget_bytes(settings.server.workers)
    _log.info("bytes held for calls are bounded", max_buffered_bytes=max_bytes)
    wait_seconds = memory.admission_wait_seconds
    budget = ByteBudget(max_bytes, wait_seconds, trim=Allocator().trim)
    return Registry(settings.server.max_concurrent_requests, budget, wait_seconds)


def _lifespan(
    closing: Iterable[Callable[[], Awaitable[None]]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The time that the app serves; behind it all is closed, in order."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for close in closing:
                await close()

    return lifespan
