"""What every run in the background is performed with: built once in app.main."""

from collections.abc import Collection
from dataclasses import dataclass

from app.offload import Offload
from app.relay.compaction import Compactor
from app.relay.conversation import Conversations
from app.relay.log_signals import LogSignals
from app.relay.memory import Memory
from app.relay.meter import Meter
from app.relay.registry import Registry
from app.relay.settle import Settler
from app.sealing import Sealer
from app.settings import RelaySettings
from app.settings_background import BackgroundSettings
from app.storage.key_store import KeyStore
from app.storage.run_store import RunStore
from app.upstream.connect import UpstreamClient


@dataclass(frozen=True, slots=True)
class Stage:
    """What every performance works with."""

    runs: RunStore
    signals: LogSignals
    memory: Memory
    conversations: Conversations
    keys: KeyStore
    upstream: UpstreamClient
    settler: Settler
    sealer: Sealer
    compactor: Compactor
    meter: Meter
    registry: Registry
    offload: Offload
    relay: RelaySettings
    background: BackgroundSettings
    max_json_depth: int
    max_context_bytes: int
    keeping_upstreams: Collection[str]
