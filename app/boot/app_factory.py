"""Build the app and everything that it uses, once, in order: the composition root."""

import structlog

from app.administration.audit import Audit
from app.administration.keys import ApiKeys
from app.administration.projects import Projects
from app.administration.settings import effective
from app.administration.upstreams import Upstreams
from app.api.application import Application
from app.api.client_address import Addresses
from app.api.request_body import BodyReader
from app.api.services import Services
from app.boot.lifespan import lifespan, opening
from app.boot.transports import transports
from app.relay.background.log_reader import EventLogReader
from app.relay.background.log_signals import LogNotifier
from app.relay.background.run_dependencies import RunDependencies
from app.relay.background.scheduler import RunScheduler
from app.relay.background.service import BackgroundResponses
from app.relay.call.prepare import Preparer
from app.relay.call.settle import Settler
from app.relay.call.stream_or_whole_answer import AnswerDelivery
from app.relay.context.compact_and_count_calls import ContextCalls
from app.relay.context.compaction import Compactor
from app.relay.history.conversation import Conversations
from app.relay.history.stored import KEEP_SECONDS, StoredHistory
from app.relay.idempotency.keyed_calls import RENEW_SECONDS, Idempotency
from app.relay.metering.limiter import Limiter
from app.relay.metering.meter import Meter
from app.relay.metering.prices import Prices
from app.relay.metering.usage_recorder import RECOVERY_SECONDS, UsageRecorder
from app.relay.passthrough.passthrough_calls import PassthroughCalls
from app.relay.pool_sync.reload import Reload
from app.relay.pool_sync.served_upstreams import DEMO_PRICE, ServedUpstreams
from app.relay.pool_sync.sync import PendingConditions, PoolSync
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.process.periodic_tasks import PeriodicTask, PeriodicTasks
from app.relay.process.readiness import Readiness
from app.relay.serve import Relay
from app.relay.warm_up import WarmUps
from app.runtime.byte_budget import ByteBudget
from app.runtime.compute_thread import ComputeThread
from app.runtime.memory_limit import Allocator, budget_bytes
from app.security.authentication import Authenticator, KeyHasher, MasterKey, mint_key
from app.security.encryption import Sealer, Vault
from app.security.failed_key_throttle import Throttle
from app.security.key_ring import KeyRing
from app.settings.gateway import Settings, read_again
from app.state.upstreams import NOTHING_STORED
from app.storage.audit import AuditStore
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.health_check import HealthCheck
from app.storage.idempotency.store import IdempotencyStore
from app.storage.keys.last_used import WRITE_SECONDS, LastUsed
from app.storage.keys.store import KeyStore
from app.storage.limits.backend import LimitBackend
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.projects.erasure import ProjectErasure
from app.storage.projects.store import ProjectStore
from app.storage.purge import Purge
from app.storage.responses.retention import Retention
from app.storage.responses.store import ResponseStore
from app.storage.runs.notifications import Notifications
from app.storage.runs.store import RunStore
from app.storage.upstreams.conditions import ConditionStore
from app.storage.upstreams.store import UpstreamStore
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer
from app.upstream.account import are_strict
from app.upstream.call.upstream_client import UpstreamClient
from app.upstream.http.client_factory import ClientFactory
from app.upstream.model_catalogue import ModelCatalogue
from app.upstream.pool.pool import Pool

_log = structlog.get_logger("antiphon.memory")
# The pause between two attempts to reconcile budgets whose reconciliation failed.
_OWED_SECONDS = 1.0
_CLOCK_SECONDS = 60
_ERASURE_SECONDS = 2
_PROJECT_ERASURE_SECONDS = 5


def create_app(settings: Settings, ring: KeyRing) -> Application:
    """Build the app. It does not use the database before `open`, and needs the current schema by then."""
    storage = settings.storage
    database = Database(storage.url, storage.pool_size, storage.commit_timeout_seconds)
    writer = Writer(database, storage.commit_timeout_seconds)
    readiness, registry, offload = Readiness(), _registry(settings), ComputeThread()
    responses = ResponseStore(database, writer, offload)
    open_conversations = Conversations(ConversationLockStore(database, writer), offload)
    runs = RunStore(database, writer)
    signals = LogNotifier(runs, None if storage.is_sqlite else Notifications(storage.url, database))
    keys, projects = KeyStore(database, writer), ProjectStore(database)
    hasher, uses = KeyHasher(ring), LastUsed(keys)
    authenticator = Authenticator(
        keys, hasher, uses, storage.key_cache_seconds, Throttle(settings.access.failed_keys_per_minute)
    )
    audit = Audit(AuditStore(database, writer))
    vault, sealer = Vault(ring), Sealer(ring)
    served_upstreams = ServedUpstreams(settings.upstreams, vault)
    clients = ClientFactory(
        settings.relay.max_upstream_connections,
        allow_private=settings.relay.allow_private_upstreams,
    )
    transport_of = transports(settings, clients, sealer, offload)

    changes = PendingConditions()
    pool = Pool(
        served_upstreams.upstreams(NOTHING_STORED),
        settings.relay.cool_down_seconds,
        on_change=changes.note,
        is_alone=storage.is_sqlite,
        wait_seconds=settings.relay.pool_wait_seconds,
        most_waiting=settings.relay.max_waiting_calls,
    )
    conditions, stored_upstreams = ConditionStore(database, writer), UpstreamStore(database, writer)
    pool_sync = PoolSync(pool, changes, served_upstreams, conditions, stored_upstreams, is_alone=storage.is_sqlite)
    upstream = UpstreamClient(pool, transport_of, settings.relay, offload)
    stored_history = StoredHistory(responses, runs, upstream, settings.relay.max_answer_bytes)
    preparer = Preparer(
        sealer, offload, max_context_bytes=settings.memory.max_context_bytes, keeping_upstreams=served_upstreams.keeping
    )
    compactor = Compactor(upstream, sealer, settings.relay.max_answer_bytes, offload)

    prices = Prices((*settings.prices, DEMO_PRICE), lambda: pool.upstreams)
    usage = UsageStore(database, writer)
    recorder = UsageRecorder(usage, prices, is_alone=storage.is_sqlite)
    limits = LimitBackend(settings.limits, DatabaseCounts(database, writer), is_alone=storage.is_sqlite)
    limiter = Limiter(limits.counts, prices, offload, allows_unpriced=settings.limits.allow_unpriced_models)
    meter = Meter(limiter, recorder, offload)
    settler = Settler(storage.retention_days, offload, database.clock.now)
    relay = Relay(
        history=stored_history,
        conversations=open_conversations,
        registry=registry,
        preparer=preparer,
        compactor=compactor,
        meter=meter,
        delivery=AnswerDelivery(settler, settings.relay, offload),
        keep_alive_seconds=settings.relay.keep_alive_seconds,
    )
    dependencies = RunDependencies(
        runs=runs,
        signals=signals,
        history=stored_history,
        conversations=open_conversations,
        keys=keys,
        upstream=upstream,
        settler=settler,
        sealer=sealer,
        compactor=compactor,
        meter=meter,
        registry=registry,
        compute_thread=offload,
        relay=settings.relay,
        background=settings.background,
        preparer=preparer,
        max_json_depth=settings.server.max_json_depth,
    )
    scheduler = RunScheduler(dependencies, is_alone=storage.is_sqlite)

    reload = Reload(settings, read_again, pool_sync)
    services = Services(
        limits=settings.server,
        body_reader=BodyReader(settings.server, registry.budget, offload),
        compute_thread=offload,
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
        keys=ApiKeys(keys, projects, audit, mint=mint_key, hash_of=hasher.hash, changed=authenticator.forget),
        audit=audit,
        upstreams=Upstreams(
            stored_upstreams,
            audit,
            vault,
            pool,
            configured=lambda: served_upstreams.configured,
            test=upstream.test,
            changed=pool_sync.wake,
            egress_policy=clients.egress_policy,
        ),
        settings=lambda: effective(settings, reload.latest),
        catalogue=ModelCatalogue(pool, transport_of, settings.relay.models_cache_seconds),
        readiness=readiness,
        registry=registry,
        periodic_tasks=PeriodicTasks(registry),
        reload=reload,
        relay=relay,
        warm_ups=WarmUps(upstream, preparer, settler, meter),
        stored_history=stored_history,
        background=BackgroundResponses(
            dependencies, stored_history, scheduler, EventLogReader(runs, signals, scheduler, registry), relay
        ),
        idempotency=Idempotency(
            IdempotencyStore(database, writer, settings.limits), registry, limiter, settings=settings.relay
        ),
        context_calls=ContextCalls(
            upstream=upstream,
            history=stored_history,
            conversations=open_conversations,
            registry=registry,
            compactor=compactor,
            meter=meter,
            preparer=preparer,
            settings=settings.relay,
            compute_thread=offload,
        ),
        passthrough=PassthroughCalls(
            relay=relay,
            upstream=upstream,
            meter=meter,
            registry=registry,
            settings=settings.relay,
            compute_thread=offload,
        ),
        usage=usage,
        limiter=limiter,
        is_strict=lambda model: are_strict(pool.upstreams, model),
    )

    services.periodic_tasks.add(
        PeriodicTask("log file", database.lengthen_log, None),
        PeriodicTask("prices", prices.load, None),
        PeriodicTask("pool sync", pool_sync.run, 0),
        PeriodicTask("background runs", scheduler.run, 0),
        PeriodicTask("idempotency leases", services.idempotency.renew, RENEW_SECONDS),
        *signals.periodic_tasks,
        PeriodicTask("conversation leases", open_conversations.extend, open_conversations.extend_seconds),
        *(PeriodicTask(f"stream leases {n}", one.renew, one.renew_seconds) for n, one in enumerate(limits.leased, 1)),
        PeriodicTask("owed settlements", limits.store.reconcile_owed, _OWED_SECONDS),
        PeriodicTask("ledger", recorder.flush_when_due, 0),
        PeriodicTask("ledger recovery", recorder.recover, RECOVERY_SECONDS),
        PeriodicTask("key uses", uses.write, WRITE_SECONDS),
        PeriodicTask("clock", database.check_clock, _CLOCK_SECONDS),
        PeriodicTask("log erasure", database.finish_erasure, _ERASURE_SECONDS),
        PeriodicTask("continued turns", lambda: stored_history.keep_all(registry.continued), KEEP_SECONDS),
        PeriodicTask("retention", services.projects.shorten_marked, storage.purge_interval_seconds),
        PeriodicTask("project erasure", services.projects.erase_marked, _PROJECT_ERASURE_SECONDS),
        *(
            PeriodicTask(f"purge of {what}", step, storage.purge_interval_seconds)
            for what, step in Purge(
                database, writer, runs, usage, limits.store, idempotency=services.idempotency.store, settings=storage
            ).steps.items()
        ),
    )

    # What is in front uses what is behind it.
    closing = tuple(each.aclose for each in (registry, signals, recorder, clients, limits, uses, writer, database))
    return Application(services, opening((database.tell_time, pool_sync.load), services), lifespan=lifespan(closing))


def _registry(settings: Settings) -> CallRegistry:
    """Build the registry that admits calls, with the budget of bytes that they hold."""
    memory = settings.memory
    max_bytes = memory.max_buffered_bytes or budget_bytes(settings.server.workers)
    _log.info("bytes held for calls are bounded", max_buffered_bytes=max_bytes)
    wait_seconds = memory.admission_wait_seconds
    budget = ByteBudget(max_bytes, wait_seconds, trim=Allocator().trim)
    return CallRegistry(settings.server.max_concurrent_requests, budget, wait_seconds)
