"""Serve the calls about a context that make no response: compact it, or count its tokens. Neither is stored."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson

from app.errors import CLIENT_LEFT, AntiphonError
from app.observability.logging import note
from app.relay.call.exchange import Exchange
from app.relay.call.prepare import Preparer
from app.relay.context.compaction import Compactor, context_tokens
from app.relay.history.base import History
from app.relay.history.conversation import Conversations
from app.relay.metering.meter import Meter
from app.relay.process.admission_and_drain import AdmittedCall, CallRegistry, shutting_down
from app.relay.stream.client import Client, ClientGoneError, Connection, RawHeader, Send, ShutdownError
from app.runtime.byte_budget import Reserve
from app.runtime.compute_thread import ComputeThread
from app.settings.gateway import RelaySettings
from app.state.records import NO_ACCOUNT, ApiKey
from app.state.usage import Endpoint
from app.upstream.account import Account
from app.upstream.call.upstream_client import UpstreamClient
from app.wire.requests.create import CreateRequest

_ESTIMATED = ((b"content-type", b"application/json"), (b"x-antiphon-estimated", b"true"))

_Answer = tuple[Sequence[RawHeader], bytes]


class _NotCountedError(AntiphonError):
    """Leave the walk through the pool at an account whose upstream counts no tokens."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.account = account


class ContextCalls:
    """Serve compact and count calls where a create call would go; do here what that account's upstream cannot."""

    def __init__(
        self,
        *,
        upstream: UpstreamClient,
        history: History,
        conversations: Conversations,
        registry: CallRegistry,
        compactor: Compactor,
        meter: Meter,
        preparer: Preparer,
        settings: RelaySettings,
        compute_thread: ComputeThread,
    ) -> None:
        self._compute_thread = compute_thread
        self._preparer = preparer
        self._meter = meter
        self._upstream = upstream
        self._history = history
        self._conversations = conversations
        self._registry = registry
        self._compactor = compactor
        self._settings = settings

    async def compact(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        admitted: AdmittedCall,
    ) -> None:
        """Answer one compact call. Raises ApiError."""
        await self._serve(
            request,
            caller,
            headers,
            self._client(send, connection),
            admitted,
            endpoint="compact",
            work=self._compactor.compact,
        )

    async def count(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        admitted: AdmittedCall,
    ) -> None:
        """Answer one call for the number of input tokens: upstream's, or an estimate that says so. Raises ApiError."""
        client = self._client(send, connection)
        await self._serve(request, caller, headers, client, admitted, endpoint="input_tokens", work=self._count)

    def _client(self, send: Send, connection: Connection) -> Client:
        return Client(send, connection, self._registry, keep_alive_seconds=0)

    async def _serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        given_headers: Mapping[str, str],
        client: Client,
        admitted: AdmittedCall,
        *,
        endpoint: Endpoint,
        work: Callable[[Exchange, Reserve], Awaitable[_Answer]],
    ) -> None:
        note(model=request.logged_model)
        admitted.on_shutdown(client.stop)
        async with self._meter.call(request, caller, given_headers, endpoint=endpoint) as exchange:
            exchange.reserve = admitted.bytes.add
            history = self._history
            if request.conversation_id is not None:
                history = await self._conversations.open(caller.project_id, request.conversation_id, history)
            await self._preparer.prepare(exchange, history, admitted.bytes, keep=False)
            if endpoint == "compact":
                await self._meter.count_history(exchange)
            try:
                with client:
                    headers, body = await work(exchange, admitted.bytes.add)
                    await client.answer(200, exchange.grant.with_limit_headers(headers), body)
            except ClientGoneError:
                note(client_gone=True)
                exchange.entry.status = CLIENT_LEFT
            except ShutdownError:
                if not client.begun:
                    raise shutting_down() from None

    async def _count(self, exchange: Exchange, reserve: Reserve) -> _Answer:
        if not exchange.model:
            return await self._estimate(exchange, exchange.prefer or NO_ACCOUNT)

        def body_of(account: Account) -> bytes:
            if not account.upstream.offers("input_tokens"):
                raise _NotCountedError(account)
            return exchange.standalone(account)

        try:
            answer = await self._upstream.open(exchange.variation(body_of, endpoint="input_tokens"))
        except _NotCountedError as reached:
            return await self._estimate(exchange, reached.account.name)
        try:
            body = await answer.read_whole(self._settings.max_answer_bytes, reserve)
        finally:
            await answer.aclose()
        return answer.headers, body

    async def _estimate(self, exchange: Exchange, account: str) -> _Answer:
        def estimate() -> int:
            return context_tokens(exchange, exchange.context(account))

        tokens = await self._compute_thread.run(exchange.size, estimate)
        return _ESTIMATED, orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens})
