"""Serve what clients ask of background responses: create, follow, read, cancel."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import orjson

from app.errors import ApiError, InvalidRequestError, NotFoundError
from app.observability.logging import note
from app.relay.background.log_reader import EventLogReader
from app.relay.background.run_dependencies import RunDependencies
from app.relay.background.run_input import read_input
from app.relay.background.run_request import queued_response, run_request_from
from app.relay.background.scheduler import RunScheduler
from app.relay.call.exchange import Exchange
from app.relay.call.reservation import Grant
from app.relay.history.stored import StoredHistory
from app.relay.process.admission_and_drain import AdmittedCall, shutting_down
from app.relay.serve import Relay
from app.relay.stream.client import Client, ClientGoneError, Connection, Send, ShutdownError
from app.runtime import byte_budget
from app.runtime.byte_budget import Reserve
from app.state.records import ApiKey, Chain
from app.state.runs import ENDED, IN_FLIGHT, Page, Run, RunRequest, RunState
from app.upstream.faults.pool_exhausted import PoolExhaustedError
from app.wire import error_messages
from app.wire.json_body import members
from app.wire.requests.create import CreateRequest

_JSON = ((b"content-type", b"application/json"),)
# How long a client waits for its response to be cancelled, and how often it is polled meanwhile.
_CANCEL_SECONDS = 5.0
_POLL_SECONDS = 0.05
# The time within which a run begins that need not wait.
_BEGUN_SECONDS = 600


class QueueFullError(ApiError):
    """Refuse a background response: the project has as many unfinished ones as it may."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


class BackgroundResponses:
    """Create, follow and cancel background responses for their clients."""

    def __init__(
        self,
        dependencies: RunDependencies,
        stored_history: StoredHistory,
        scheduler: RunScheduler,
        reader: EventLogReader,
        relay: Relay,
    ) -> None:
        self._relay = relay
        self._dependencies = dependencies
        self._stored_history = stored_history
        self._scheduler = scheduler
        self._reader = reader

    async def serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        admitted: AdmittedCall,
        on_queued: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Answer a create call once its run is committed: with the queued response, or with its stream of events.

        `on_queued` is called with its id before. An upstream that keeps the state itself also runs it itself. Raises
        ApiError while nothing has been sent.
        """
        run_request = run_request_from(request, caller, headers, self._dependencies.sealer)
        note(model=request.logged_model, stream=request.stream, background=True, response_id=run_request.id)
        client = self._client(send, connection)
        admitted.on_shutdown(client.stop)
        try:
            is_ours = await self._check(request, caller, run_request, admitted)
        except ApiError as error:
            await self._dependencies.meter.refuse(request, caller, error)
            raise
        if not is_ours:
            await self._relay.serve(request, caller, headers, send, connection, admitted=admitted)
            return
        # Nothing of the run request is held on: its row has it.
        if not request.stream:
            exchange, _, body = await self._enqueue(run_request, request, caller, on_queued)
            del run_request
            admitted.bytes.shrink(0)
            await client.answer(200, exchange.grant.with_limit_headers(_JSON), body)
            return
        # Before the run is created: a client that cannot listen to it gets none. From then on the client is a listener
        # and no call.
        with self._dependencies.registry.listen(caller.project_id, client.stop, is_admitted=True) as listener:
            exchange, key, _ = await self._enqueue(run_request, request, caller, on_queued)
            del run_request
            admitted.release()
            await self._listen(client, key, -1, listener, exchange.grant)

    async def _enqueue(
        self,
        run_request: RunRequest,
        request: CreateRequest,
        caller: ApiKey,
        on_queued: Callable[[str], Awaitable[None]] | None,
    ) -> tuple[Exchange, int, bytes]:
        """Admit the call and commit its run, which has the prompt and the grant from then on.

        Returns the call, the key of its run and the response as queued.
        """
        meter = self._dependencies.meter
        exchange = await meter.admit_run(request, caller, run_request.headers)
        try:
            body, page = queued_response(run_request, request)
            run = await self._create(replace(run_request, drawn=exchange.grant.drawn), body, page)
        except Exception as error:
            await meter.end(exchange, error)
            raise
        exchange.release_prompt()
        if on_queued is not None:
            await on_queued(run_request.id)
        return exchange, run.key, body

    async def _create(self, run_request: RunRequest, body: bytes, page: Page | None) -> Run:
        """Create the run, owned by this process while there is room. Raises QueueFullError and StorageError."""
        limit = self._dependencies.background.background_queue
        with self._scheduler.room_for(run_request) as owner:
            # A client that leaves meanwhile changes nothing: it is not watched yet.
            run = await self._dependencies.runs.create(
                run_request, body, page, owner=owner, lease_seconds=self._scheduler.lease_seconds, most=limit
            )
            if run is not None and owner is not None:
                self._scheduler.take(run)
        if run is None:
            raise QueueFullError(
                f"Rate limit reached: {limit} responses of your project are unfinished in the background. "
                "Please try again later.",
                headers={"retry-after": "5"},
            )
        if owner is None:
            self._scheduler.wake_for(run_request)
        return run

    async def follow(self, caller: ApiKey, key: int, after: int, send: Send, connection: Connection) -> None:
        """Answer with the events of this run after number `after`, to its end.

        Raises OverloadedError, and what the limiter raises, while nothing has been sent.
        """
        client = self._client(send, connection)
        with self._dependencies.registry.listen(caller.project_id, client.stop) as admitted:
            grant = await self._dependencies.meter.limiter.listen(caller)
            await self._listen(client, key, after, admitted, grant)

    async def find_log(self, project_id: str, response_id: str, reserve: Reserve) -> int:
        """Find the run whose log this response has. Raises NotFoundError, and InvalidRequestError without a log."""
        run = await self._dependencies.runs.find(project_id, response_id)
        if run is not None and run.is_streamed:
            return run.key
        if run is None and await self._stored_history.read_body(project_id, response_id, reserve) is None:
            raise not_found(response_id)
        raise InvalidRequestError(
            "This response cannot be streamed: it was not created with 'background' and 'stream' set to true, "
            "or its events are not kept any more.",
            param="stream",
        )

    async def read_input(self, caller: ApiKey, response_id: str, held: byte_budget.Reservation) -> Chain | None:
        """Read the input of an unfinished response of the caller's project, as the chain that it will be."""
        run_request = await self._dependencies.runs.read_request(caller.project_id, response_id, held.add)
        return None if run_request is None else await read_input(self._dependencies, run_request, caller, held)

    async def cancel(self, project_id: str, response_id: str, reserve: Reserve) -> bytes:
        """Cancel the response; return it as it then stands.

        Raises NotFoundError, and InvalidRequestError for a response that was not made in the background or has ended
        otherwise.
        """
        run = await self._dependencies.runs.find(project_id, response_id)
        if run is None:
            return await self._cancelled_before(project_id, response_id, reserve)
        if run.status in IN_FLIGHT:
            await self._dependencies.runs.request_cancel(run.key)
            self._scheduler.wake()
            run = await self._ended(project_id, response_id, run)
        if run.status in ENDED and run.status != "cancelled":
            raise error_messages.already_ended(run.status)
        return run.body

    async def _cancelled_before(self, project_id: str, response_id: str, reserve: Reserve) -> bytes:
        """Return a response whose run is gone, as cancelled; cancel it at its upstream where it is in flight there."""
        body = await self._stored_history.read_body(project_id, response_id, reserve)
        if body is None:
            raise not_found(response_id)
        parts = members(body)
        if bytes(parts.get("background", b"")) != b"true":
            raise error_messages.synchronous_response()
        status = orjson.loads(bytes(parts.get("status", b"null")))
        if status in IN_FLIGHT:
            return await self._stored_history.cancel_upstream(project_id, response_id, reserve)
        if status != "cancelled":
            raise error_messages.already_ended(status)
        return body

    async def _ended(self, project_id: str, response_id: str, run: RunState) -> RunState:
        """Wait for the end of the run, for a while; return its state then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                while run.status in IN_FLIGHT:
                    await asyncio.sleep(_POLL_SECONDS)
                    run = await self._dependencies.runs.find(project_id, response_id) or run
        return run

    async def _check(
        self, request: CreateRequest, caller: ApiKey, run_request: RunRequest, admitted: AdmittedCall
    ) -> bool:
        """Raise what the call would be refused for if it ran now; return whether the run is for us to make."""
        dependencies, conversation_id = self._dependencies, request.conversation_id
        exchange, prepare = Exchange(request, caller, run_request.headers), dependencies.preparer.prepare
        if conversation_id is None:
            await prepare(exchange, self._stored_history, admitted.bytes, keep=False)
            if exchange.chain is not None:
                # The run may wait so long before a process claims it; until then its chain must not expire.
                await self._stored_history.keep(
                    exchange.chain, dependencies.background.background_wait_seconds + _BEGUN_SECONDS
                )
        else:
            opened = (
                dependencies.conversations.lock(
                    run_request.project_id, conversation_id, self._stored_history, run_request.id
                )
                if run_request.is_stored
                else dependencies.conversations.open(run_request.project_id, conversation_id, self._stored_history)
            )
            conversation = await opened
            try:
                await prepare(exchange, conversation, admitted.bytes, keep=False)
            finally:
                # The run waits its turn, and takes the lock then.
                await conversation.release()
        # The run would wait for an account in cooldown.
        with suppress(PoolExhaustedError):
            return dependencies.upstream.first(exchange).upstream.state == "gateway"
        return True

    async def _listen(self, client: Client, key: int, after: int, admitted: AdmittedCall, grant: Grant) -> None:
        """Send the client the events of the run, as a stream that this grant counts."""
        try:
            with client:
                await self._reader.send(key, after, client, admitted.bytes, grant.headers)
        except ClientGoneError:
            note(client_gone=True)
        except ShutdownError:
            if not client.begun:
                raise shutting_down() from None
            # The client can go on at another replica, or here after the restart.
            await client.end_stream()
        finally:
            await self._dependencies.meter.limiter.end_stream(grant)

    def _client(self, send: Send, connection: Connection) -> Client:
        return Client(
            send,
            connection,
            self._dependencies.registry,
            keep_alive_seconds=self._dependencies.relay.keep_alive_seconds,
        )


def not_found(response_id: str) -> NotFoundError:
    """Make the error of a response that is not in the caller's project."""
    return NotFoundError(f"Response with id '{response_id[:512]}' not found.")
