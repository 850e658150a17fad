"""The `responses` endpoints: take in, hand on, answer."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.api.answers import JsonAnswer, for_list, list_answer
from app.api.idempotency import KEY, fingerprint
from app.api.intake import headers_of
from app.api.queries import check_include, is_beta, read_page_query, read_stream_query
from app.api.services import Caller, Held, Services, ServicesOf
from app.errors import InvalidRequestError
from app.relay.background import not_found
from app.relay.client import Connection
from app.relay.idempotency import Ordered, not_kept
from app.relay.recorded_answer import RecordedAnswer
from app.relay.registry import Place
from app.state import policy
from app.state.listing import input_of, page
from app.state.records import ApiKey
from app.wire.requests import CreateRequest, parse_create_request

_JSON = "application/json"


class CreateResponse:
    """Create a model response, streamed or whole."""

    def __init__(self, services: Services, needed: policy.Scope) -> None:
        self._services = services
        self._needed = needed
        self._parse = partial(parse_create_request, is_strict=services.is_strict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call; the relay writes to the socket as upstream's bytes arrive.

        Raises ApiError before the first byte, for the edge to answer.
        """
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as place:
            connection = scope["extensions"]["antiphon"]["connection"]
            if KEY in headers:
                await self._serve_once(scope, receive, send, caller, place)
                return
            request = await services.intake.read(self._parse, headers, receive, place.bytes, connection.take_whole)
            request.is_beta = is_beta(scope)
            server = services.background if request.background else services.relay
            serving = server.serve(request, caller, headers, send, connection, place=place)
            # The prompt is not to be held here while the answer streams.
            del request
            await serving

    async def _serve_once(self, scope: Scope, receive: Receive, send: Send, caller: ApiKey, place: Place) -> None:
        """Serve a call with an idempotency key: make it, unless it was made before."""
        services, headers = self._services, headers_of(scope)
        connection = scope["extensions"]["antiphon"]["connection"]
        hashed = fingerprint(scope, headers)
        request = await services.intake.read(hashed.of(self._parse), headers, receive, place.bytes)
        request.is_beta = is_beta(scope)
        serving = services.idempotency.serve(
            hashed.request(caller.project_id, caller.id),
            partial(self._make, request, caller, headers, place),
            send,
            connection,
            place=place,
            metered=caller,
            keeps=request.store,
        )
        del request
        logged = await serving
        if logged is not None:
            try:
                key = await services.background.find_log(caller.project_id, logged, place.bytes.add)
            except InvalidRequestError:
                raise not_kept() from None
            await services.background.follow(caller, key, -1, send, connection)

    async def _make(  # noqa: PLR0917
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        place: Place,
        record: RecordedAnswer,
        ordered: Ordered,
    ) -> str | None:
        """Make the call; returns the id of its response."""

        async def note_id(response_id: str) -> None:
            place.response_id = response_id

        serve = (
            partial(self._services.background.serve, ordered=ordered if request.stream else note_id)
            if request.background
            else self._services.relay.serve
        )
        serving = serve(request, caller, headers, record.send, record, place=place)
        del request
        await serving
        return place.response_id


class EventStream(Response):
    """What a run in the background says, as it says it."""

    def __init__(self, follow: Callable[[Send, Connection], Awaitable[None]]) -> None:
        super().__init__()
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await self._follow(send, scope["extensions"]["antiphon"]["connection"])


async def retrieve_response(
    response_id: str, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """Return a response as it stands, or stream what it says after some event."""
    check_include(request, services.is_strict)
    after = read_stream_query(request)
    if after is not None:
        key = await services.background.find_log(caller.project_id, response_id, held.add)
        return EventStream(partial(services.background.follow, caller, key, after))
    body = await services.archive.read_body(caller.project_id, response_id, held.add)
    if body is None:
        raise not_found(response_id)
    return JsonAnswer(body)


async def cancel_response(response_id: str, caller: Caller, services: ServicesOf, held: Held) -> Response:
    """End a response in the background where it is, and return it."""
    return JsonAnswer(await services.background.cancel(caller.project_id, response_id, held.add))


async def delete_response(response_id: str, caller: Caller, services: ServicesOf) -> Response:
    """Delete a stored response and its items."""
    was_there = await services.archive.delete(caller.project_id, response_id)
    await services.idempotency.store.erase(caller.project_id, response_id)
    if not was_there:
        raise not_found(response_id)
    deleted = {"id": response_id, "object": "response.deleted", "deleted": True}
    return Response(orjson.dumps(deleted), media_type=_JSON)


async def list_input_items(
    response_id: str, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """List what goes into a stored response, finished or not: the turns it continues, then its own input."""
    query = read_page_query(request)
    check_include(request, services.is_strict)
    read = partial(services.responses.read_chain, caller.project_id, response_id, int(time.time()), for_list(held))
    chain = await read() or await services.background.read_input(caller, response_id, held)
    if chain is None and (chain := await read()) is None:
        # Nor has it ended between the two.
        raise not_found(response_id)
    return await list_answer(lambda: page(input_of(chain), query), chain.size, services.offload, held)
