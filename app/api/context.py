"""The `responses` endpoints that make no response: take in, hand on."""

from functools import partial

from starlette.types import Receive, Scope, Send

from app.api.intake import headers_of
from app.api.queries import is_beta
from app.api.services import Services
from app.state import policy
from app.wire.requests import parse_compact_request, parse_count_request


class CompactContext:
    """Compact a conversation, to go on from what this returns."""

    def __init__(self, services: Services, needed: policy.Scope) -> None:
        self._services = services
        self._needed = needed
        self._parse = partial(parse_compact_request, is_strict=services.is_strict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call. Raises ApiError before the first byte, for the edge to answer."""
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as place:
            request = await services.intake.read(self._parse, headers, receive, place.bytes)
            request.is_beta = is_beta(scope)
            connection = scope["extensions"]["antiphon"]["connection"]
            await services.context_calls.compact(request, caller, headers, send, connection, place=place)


class CountInputTokens:
    """Count the input tokens that a response would have; an estimate is marked by a header."""

    def __init__(self, services: Services, needed: policy.Scope) -> None:
        self._services = services
        self._needed = needed
        self._parse = partial(parse_count_request, is_strict=services.is_strict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call. Raises ApiError before the first byte, for the edge to answer."""
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as place:
            request = await services.intake.read(self._parse, headers, receive, place.bytes)
            request.is_beta = is_beta(scope)
            connection = scope["extensions"]["antiphon"]["connection"]
            await services.context_calls.count(request, caller, headers, send, connection, place=place)
