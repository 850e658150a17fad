"""Build the administration of upstreams for a command, with a pool of its own from configuration and database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.administration.upstreams import Upstreams
from app.boot.installation import Installation
from app.demo.endpoint import answer
from app.relay.pool_sync.served_upstreams import DEMO, ServedUpstreams
from app.relay.pool_sync.sync import PendingConditions, PoolSync
from app.runtime.compute_thread import ComputeThread
from app.settings.gateway import load_settings
from app.state.upstreams import NOTHING_STORED
from app.upstream.call.upstream_client import UpstreamClient
from app.upstream.http.client_factory import ClientFactory
from app.upstream.pool.pool import Pool
from app.upstream.transport import InProcessTransport


@asynccontextmanager
async def upstreams_of(installation: Installation) -> AsyncIterator[Upstreams]:
    """Yield the administration of upstreams, with the health that running gateways noted in the database.

    Gateways apply a change from here within two seconds. A test is a call from this process.
    """
    settings = load_settings()
    relay = settings.relay
    served_upstreams = ServedUpstreams(settings.upstreams, installation.vault)
    changes = PendingConditions()
    pool = Pool(
        served_upstreams.upstreams(NOTHING_STORED),
        relay.cool_down_seconds,
        on_change=changes.note,
        # This pool serves no calls, so it needs no coordination of probes with other processes.
        is_alone=True,
        wait_seconds=relay.pool_wait_seconds,
        most_waiting=relay.max_waiting_calls,
    )
    await PoolSync(
        pool, changes, served_upstreams, installation.conditions, installation.upstreams, is_alone=True
    ).load()
    clients = ClientFactory(relay.max_upstream_connections, allow_private=relay.allow_private_upstreams)
    demo = InProcessTransport(answer)
    client = UpstreamClient(
        pool, lambda upstream: demo if upstream is DEMO else clients.to(upstream), relay, ComputeThread()
    )
    try:
        yield Upstreams(
            installation.upstreams,
            installation.audit,
            installation.vault,
            pool,
            configured=lambda: served_upstreams.configured,
            test=client.test,
            changed=lambda: None,
            egress_policy=clients.egress_policy,
        )
    finally:
        await clients.aclose()
