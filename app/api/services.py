"""What the endpoints work with: built once in app.main, reached from a request."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Scope as Asgi

from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.keys import Keys
from app.administration.projects import Projects
from app.administration.settings import EffectiveSetting
from app.administration.upstreams import Upstreams
from app.api.addresses import Addresses
from app.api.intake import Intake
from app.auth import Authenticator, MasterKey
from app.byte_budget import Reservation
from app.offload import Offload
from app.relay.archive import Archive
from app.relay.background import Background
from app.relay.context_calls import ContextCalls
from app.relay.conversation import Conversations
from app.relay.duties import Duties
from app.relay.idempotency import Idempotency
from app.relay.limiter import Limiter
from app.relay.readiness import Readiness
from app.relay.registry import Registry
from app.relay.reload import Reload
from app.relay.serve import Relay
from app.settings import ServerSettings
from app.state.policy import Scope
from app.state.records import ApiKey
from app.storage.conversation_store import ConversationStore
from app.storage.health_check import HealthCheck
from app.storage.response_store import ResponseStore
from app.storage.usage_store import UsageStore
from app.upstream.models import ModelCatalogue


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the HTTP surface."""

    limits: ServerSettings
    intake: Intake
    offload: Offload
    health: HealthCheck
    responses: ResponseStore
    conversations: ConversationStore
    open_conversations: Conversations
    addresses: Addresses
    authenticator: Authenticator
    master_key: MasterKey
    projects: Projects
    keys: Keys
    audit: Audit
    upstreams: Upstreams
    settings: Callable[[], Sequence[EffectiveSetting]]
    catalogue: ModelCatalogue
    readiness: Readiness
    registry: Registry
    duties: Duties
    reload: Reload
    relay: Relay
    archive: Archive
    background: Background
    idempotency: Idempotency
    context_calls: ContextCalls
    usage: UsageStore
    limiter: Limiter
    is_strict: Callable[[str | None], bool]

    def identify(self, asgi: Asgi, headers: Mapping[str, str], scope: Scope) -> Awaitable[ApiKey]:
        """The caller of this request, who has this scope. Raises what the authenticator raises."""
        return self.authenticator.identify(headers, self.addresses.of(asgi), scope)


async def services(request: Request) -> Services:
    """The app's services. A coroutine, because the framework sends plain functions through a thread."""
    found: Services = request.app.state.services
    return found


class Permission:
    """What a route under /v1 asks of its caller: a good key that has this scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, found: Annotated[Services, Depends(services)]) -> None:
        """Let the caller in; raises what the authenticator raises."""
        request.state.caller = await found.identify(request.scope, request.headers, self.scope)


async def caller(request: Request) -> ApiKey:
    """The caller that the route's permission let in. Without one there is none, and the call fails."""
    found: ApiKey = request.state.caller
    return found


async def held(
    caller: Annotated[ApiKey, Depends(caller)], found: Annotated[Services, Depends(services)]
) -> AsyncIterator[Reservation]:
    """What the call holds of the budget of bytes, until its answer is written."""
    with found.registry.budget.reservation(caller.project_id) as reservation:
        yield reservation


async def administrator(request: Request, found: Annotated[Services, Depends(services)]) -> Actor:
    """Who administers: the master key's holder, or an API key with an admin scope. Every route under /admin asks.

    One with admin:read alone gets in, and is refused by each change. Raises what the authenticator raises.
    """
    address = found.addresses.of(request.scope)
    if found.master_key.is_carried(request.headers):
        return Actor("master key", address)
    key = await found.authenticator.identify_anew(request.headers, address, "admin:read")
    return Actor(
        f"{key.id} ({key.name})",
        address,
        can_write="admin" in key.policy.scopes,
        scopes=key.policy.scopes,
        expires_at=key.expires_at,
        addresses=key.policy.addresses,
        key_id=key.id,
        key_version=key.version,
    )


ServicesOf = Annotated[Services, Depends(services)]
Caller = Annotated[ApiKey, Depends(caller)]
Held = Annotated[Reservation, Depends(held)]
Administrator = Annotated[Actor, Depends(administrator)]
