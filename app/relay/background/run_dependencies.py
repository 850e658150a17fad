"""Collect what the workers of background runs need: built once in `app.boot.app_factory`."""

from dataclasses import dataclass

from app.relay.background.log_signals import LogNotifier
from app.relay.call.prepare import Preparer
from app.relay.call.settle import Settler
from app.relay.context.compaction import Compactor
from app.relay.history.base import History
from app.relay.history.conversation import Conversations
from app.relay.metering.meter import Meter
from app.relay.process.admission_and_drain import CallRegistry
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.settings.background import BackgroundSettings
from app.settings.gateway import RelaySettings
from app.storage.keys.store import KeyStore
from app.storage.runs.store import RunStore
from app.upstream.call.upstream_client import UpstreamClient


@dataclass(frozen=True, slots=True)
class RunDependencies:
    """Hold what every run worker works with."""

    runs: RunStore
    signals: LogNotifier
    history: History
    conversations: Conversations
    keys: KeyStore
    upstream: UpstreamClient
    settler: Settler
    sealer: Sealer
    compactor: Compactor
    meter: Meter
    registry: CallRegistry
    compute_thread: ComputeThread
    relay: RelaySettings
    background: BackgroundSettings
    preparer: Preparer
    max_json_depth: int
