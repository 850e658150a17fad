"""The upstreams as a command has them: what the configuration and the database say of them, in a pool of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.administration.upstreams import Upstreams
from app.demo.answer import answer
from app.installation import Installation
from app.offload import Offload
from app.relay.keeper import Changes, Keeper
from app.relay.roster import DEMO, Roster
from app.settings import load_settings
from app.state.upstreams import NOTHING_STORED
from app.upstream.connect import UpstreamClient
from app.upstream.networks import Networks
from app.upstream.pool import Pool
from app.upstream.transport import InProcessTransport


@asynccontextmanager
async def upstreams_of(installation: Installation) -> AsyncIterator[Upstreams]:
    """The administration of upstreams, with the health that running gateways noted in the database.

    What is changed here they take over within two seconds. A test is a call from this process.
    """
    settings = load_settings()
    relay = settings.relay
    roster = Roster(settings.upstreams, installation.vault)
    changes = Changes()
    pool = Pool(
        roster.upstreams(NOTHING_STORED),
        relay.cool_down_seconds,
        on_change=changes.note,
        # It makes no calls: it need not ask others who may probe, and takes no probe from them.
        is_alone=True,
        wait_seconds=relay.pool_wait_seconds,
        most_waiting=relay.max_waiting_calls,
    )
    await Keeper(pool, changes, roster, installation.conditions, installation.upstreams, is_alone=True).load()
    networks = Networks(relay.transport, relay.max_upstream_connections, allow_private=relay.allow_private_upstreams)
    demo = InProcessTransport(answer)
    client = UpstreamClient(
        pool, lambda upstream: demo if upstream is DEMO else networks.to(upstream), relay, Offload()
    )
    try:
        yield Upstreams(
            installation.upstreams,
            installation.audit,
            installation.vault,
            pool,
            configured=lambda: roster.configured,
            test=client.test,
            changed=lambda: None,
            reach=networks.reach,
        )
    finally:
        await networks.aclose()
