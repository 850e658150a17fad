"""Serve POST /v1/responses/compact and /v1/responses/input_tokens, which make no response."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.types import Receive, Scope, Send

from app.api.request_body import connection_of, headers_of
from app.api.services import Services
from app.api.v1.query_parameters import is_beta
from app.state import policies
from app.wire.requests.create import CreateRequest, parse_compact_request, parse_count_request


class _ContextRoute:
    """Read one call, whose body `parse` checks, and have it answered by `answer`."""

    def __init__(
        self,
        services: Services,
        needed: policies.Scope,
        parse: Callable[..., CreateRequest],
        answer: Callable[..., Awaitable[None]],
    ) -> None:
        self._services = services
        self._needed = needed
        self._parse = partial(parse, is_strict=services.is_strict)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call. Raises ApiError before the first byte, for the middleware to answer."""
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as admitted:
            request = await services.body_reader.read(self._parse, headers, receive, admitted.bytes)
            request.is_beta = is_beta(scope)
            await self._answer(request, caller, headers, send, connection_of(scope), admitted=admitted)


class CompactContext(_ContextRoute):
    """Compact a conversation, to go on from what this returns."""

    def __init__(self, services: Services, needed: policies.Scope) -> None:
        super().__init__(services, needed, parse_compact_request, services.context_calls.compact)


class CountInputTokens(_ContextRoute):
    """Count the input tokens that a response would have; an estimate is marked by a header."""

    def __init__(self, services: Services, needed: policies.Scope) -> None:
        super().__init__(services, needed, parse_count_request, services.context_calls.count)
