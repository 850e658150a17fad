"""Hold what the endpoints work with, and give it to them as a FastAPI dependency."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Scope as Asgi

from app.administration.audit import Audit
from app.administration.keys import ApiKeys
from app.administration.projects import Projects
from app.administration.settings import EffectiveSetting
from app.administration.upstreams import Upstreams
from app.api.client_address import Addresses
from app.api.request_body import BodyReader
from app.relay.background.service import BackgroundResponses
from app.relay.context.compact_and_count_calls import ContextCalls
from app.relay.history.conversation import Conversations
from app.relay.history.stored import StoredHistory
from app.relay.idempotency.keyed_calls import Idempotency
from app.relay.metering.limiter import Limiter
from app.relay.passthrough.passthrough_calls import PassthroughCalls
from app.relay.pool_sync.reload import Reload
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.process.periodic_tasks import PeriodicTasks
from app.relay.process.readiness import Readiness
from app.relay.serve import Relay
from app.relay.warm_up import WarmUps
from app.runtime.compute_thread import ComputeThread
from app.security.authentication import Authenticator, MasterKey
from app.settings.server import ServerSettings
from app.state.policies import Scope
from app.state.records import ApiKey
from app.storage.conversations.store import ConversationStore
from app.storage.health_check import HealthCheck
from app.storage.responses.store import ResponseStore
from app.storage.usage.store import UsageStore
from app.upstream.model_catalogue import ModelCatalogue


@dataclass(frozen=True, slots=True)
class Services:
    """Hold the objects that endpoints call; `boot.app_factory` builds them once."""

    limits: ServerSettings
    body_reader: BodyReader
    compute_thread: ComputeThread
    health: HealthCheck
    responses: ResponseStore
    conversations: ConversationStore
    open_conversations: Conversations
    addresses: Addresses
    authenticator: Authenticator
    master_key: MasterKey
    projects: Projects
    keys: ApiKeys
    audit: Audit
    upstreams: Upstreams
    settings: Callable[[], Sequence[EffectiveSetting]]
    catalogue: ModelCatalogue
    readiness: Readiness
    registry: CallRegistry
    periodic_tasks: PeriodicTasks
    reload: Reload
    relay: Relay
    warm_ups: WarmUps
    stored_history: StoredHistory
    background: BackgroundResponses
    idempotency: Idempotency
    context_calls: ContextCalls
    passthrough: PassthroughCalls
    usage: UsageStore
    limiter: Limiter
    is_strict: Callable[[str | None], bool]

    def identify(self, asgi: Asgi, headers: Mapping[str, str], scope: Scope) -> Awaitable[ApiKey]:
        """Authenticate the caller of this request and check the scope. Raises what the authenticator raises."""
        return self.authenticator.identify(headers, self.addresses.of(asgi), scope)


async def services(request: Request) -> Services:
    """Return the app's services. A coroutine, because FastAPI runs plain functions in a thread."""
    found: Services = request.app.state.services
    return found


ServicesOf = Annotated[Services, Depends(services)]
