"""What the endpoints work with: built once in app.main, reached from a request."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.auth import Authenticator
from app.relay.archive import Archive
from app.relay.background import Background
from app.relay.context_calls import ContextCalls
from app.relay.conversation import Conversations
from app.relay.registry import Registry
from app.relay.serve import Relay
from app.settings import ServerSettings
from app.state.records import ApiKey
from app.storage.conversation_store import ConversationStore
from app.storage.database import Database
from app.storage.response_store import ResponseStore
from app.upstream.models import ModelCatalogue


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the HTTP surface."""

    limits: ServerSettings
    database: Database
    responses: ResponseStore
    conversations: ConversationStore
    open_conversations: Conversations
    authenticator: Authenticator
    catalogue: ModelCatalogue
    registry: Registry
    relay: Relay
    archive: Archive
    background: Background
    context_calls: ContextCalls


async def services(request: Request) -> Services:
    """The app's services. A coroutine, because the framework sends plain functions through a thread."""
    found: Services = request.app.state.services
    return found


async def caller(request: Request, found: Annotated[Services, Depends(services)]) -> ApiKey:
    """The authenticated caller; every route under /v1 depends on it."""
    return await found.authenticator.identify(request.headers)


ServicesOf = Annotated[Services, Depends(services)]
Caller = Annotated[ApiKey, Depends(caller)]
