"""Authenticate the caller of a route, require its scope, and reserve bytes for its call, as FastAPI dependencies."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from app.administration.actor import Actor
from app.api.services import ServicesOf
from app.runtime.byte_budget import Reservation
from app.state.policies import Scope
from app.state.records import ApiKey


class Permission:
    """Require of a route's caller a valid key that has this scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, found: ServicesOf) -> None:
        """Authenticate the caller and note it in the request's state. Raises what the authenticator raises."""
        request.state.caller = await found.identify(request.scope, request.headers, self.scope)


async def caller(request: Request) -> ApiKey:
    """Return the caller whom the route's permission has authenticated; fails on a route without permission."""
    found: ApiKey = request.state.caller
    return found


async def held(caller: Annotated[ApiKey, Depends(caller)], found: ServicesOf) -> AsyncIterator[Reservation]:
    """Reserve bytes of the budget for the call, until its answer is written."""
    with found.registry.budget.reservation(caller.project_id) as reservation:
        yield reservation


async def administrator(request: Request, found: ServicesOf) -> Actor:
    """Authenticate who administers: the master key's holder, or an API key with an admin scope.

    A key with admin:read alone gets in, and each change refuses it. Raises what the authenticator raises.
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


Caller = Annotated[ApiKey, Depends(caller)]
Held = Annotated[Reservation, Depends(held)]
Administrator = Annotated[Actor, Depends(administrator)]
