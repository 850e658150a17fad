"""Choose what carries the calls to each upstream: the network or the demo model, translated where it speaks chat."""

from collections.abc import Callable

from app.demo.endpoint import answer
from app.relay.pool_sync.served_upstreams import DEMO
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.settings.gateway import Settings
from app.settings.upstreams import UpstreamSettings
from app.upstream.chat.chat_transport import ChatTransport
from app.upstream.http.client_factory import ClientFactory
from app.upstream.transport import InProcessTransport, Transport


def transports(
    settings: Settings, clients: ClientFactory, sealer: Sealer, compute_thread: ComputeThread
) -> Callable[[UpstreamSettings], Transport]:
    """Make the function that returns the transport to an upstream, in the API that it speaks."""
    demo = InProcessTransport(answer)

    def transport_of(upstream: UpstreamSettings) -> Transport:
        transport = demo if upstream is DEMO else clients.to(upstream)
        if upstream.is_translated:
            return ChatTransport(transport, upstream, sealer, compute_thread, settings.relay.max_answer_bytes)
        return transport

    return transport_of
