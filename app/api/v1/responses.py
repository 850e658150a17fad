"""Serve /v1/responses: create, retrieve, cancel and delete responses, and list their input items."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.api.dependencies import Caller, Held
from app.api.json_answer import JsonAnswer, for_list, list_answer
from app.api.request_body import connection_of, headers_of
from app.api.services import Services, ServicesOf
from app.api.v1.idempotency_key import KEY, fingerprint
from app.api.v1.query_parameters import check_include, is_beta, read_page_query, read_stream_query
from app.errors import InvalidRequestError
from app.relay.background.service import not_found
from app.relay.idempotency.keyed_calls import OnQueued, not_kept
from app.relay.idempotency.recorded_answer import RecordedAnswer
from app.relay.process.admission_and_drain import AdmittedCall
from app.relay.stream.client import Connection
from app.state import policies
from app.state.items.item_pages import input_of, page
from app.state.records import ApiKey
from app.wire.requests.create import CreateRequest, parse_create_request

_JSON = "application/json"


class CreateResponse:
    """Create a model response, streamed or whole."""

    def __init__(self, services: Services, needed: policies.Scope) -> None:
        self._services = services
        self._needed = needed
        self._parse = partial(parse_create_request, is_strict=services.is_strict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call; the relay writes to the socket as upstream's bytes arrive.

        Raises ApiError before the first byte, for the middleware to answer.
        """
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as admitted:
            connection = connection_of(scope)
            if KEY in headers:
                await self._serve_once(scope, receive, send, caller, admitted)
                return
            request = await services.body_reader.read(
                self._parse, headers, receive, admitted.bytes, connection.take_whole
            )
            request.is_beta = is_beta(scope)
            server = services.background if request.background else services.relay
            serving = server.serve(request, caller, headers, send, connection, admitted=admitted)
            # The prompt is not to be held here while the answer streams.
            del request
            await serving

    async def _serve_once(
        self, scope: Scope, receive: Receive, send: Send, caller: ApiKey, admitted: AdmittedCall
    ) -> None:
        """Serve a call with an idempotency key: make it, unless it was made before."""
        services, headers = self._services, headers_of(scope)
        connection = connection_of(scope)
        hashed = fingerprint(scope, headers)
        request = await services.body_reader.read(hashed.of(self._parse), headers, receive, admitted.bytes)
        request.is_beta = is_beta(scope)
        serving = services.idempotency.serve(
            hashed.request(caller.project_id, caller.id),
            partial(self._make, request, caller, headers, admitted),
            send,
            connection,
            admitted=admitted,
            metered=caller,
            keeps=request.store,
        )
        del request
        logged = await serving
        if logged is not None:
            try:
                key = await services.background.find_log(caller.project_id, logged, admitted.bytes.add)
            except InvalidRequestError:
                raise not_kept() from None
            await services.background.follow(caller, key, -1, send, connection)

    async def _make(  # noqa: PLR0917
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        admitted: AdmittedCall,
        record: RecordedAnswer,
        on_queued: OnQueued,
    ) -> str | None:
        """Make the call; returns the id of its response."""

        async def note_id(response_id: str) -> None:
            admitted.response_id = response_id

        serve = (
            partial(self._services.background.serve, on_queued=on_queued if request.stream else note_id)
            if request.background
            else self._services.relay.serve
        )
        serving = serve(request, caller, headers, record.send, record, admitted=admitted)
        del request
        await serving
        return admitted.response_id


class EventStream(Response):
    """Stream the event log of a background run, as it grows."""

    def __init__(self, follow: Callable[[Send, Connection], Awaitable[None]]) -> None:
        super().__init__()
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await self._follow(send, connection_of(scope))


async def retrieve_response(
    response_id: str, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """Return a response as it stands, or stream what it says after some event."""
    check_include(request, services.is_strict)
    after = read_stream_query(request)
    if after is not None:
        key = await services.background.find_log(caller.project_id, response_id, held.add)
        return EventStream(partial(services.background.follow, caller, key, after))
    body = await services.stored_history.read_body(caller.project_id, response_id, held.add)
    if body is None:
        raise not_found(response_id)
    return JsonAnswer(body)


async def cancel_response(response_id: str, caller: Caller, services: ServicesOf, held: Held) -> Response:
    """End a response in the background where it is, and return it."""
    return JsonAnswer(await services.background.cancel(caller.project_id, response_id, held.add))


async def delete_response(response_id: str, caller: Caller, services: ServicesOf) -> Response:
    """Delete a stored response and its items."""
    was_there = await services.stored_history.delete(caller.project_id, response_id)
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
        # The run has not ended between the two reads either.
        raise not_found(response_id)
    return await list_answer(lambda: page(input_of(chain), query), chain.size, services.compute_thread, held)
