"""The calls about a context that make no response: it is compacted, or its tokens are counted. Neither is stored."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

import orjson

from app.byte_budget import Reserve
from app.errors import AntiphonError, OverloadedError
from app.observability.logging import note
from app.offload import Offload
from app.relay.calls import upstream_call
from app.relay.client import Client, ClientGoneError, Connection, RawHeader, Send, ShutdownError
from app.relay.compaction import Compactor, context_tokens
from app.relay.context_room import ContextRoom
from app.relay.conversation import Conversations
from app.relay.exchange import Exchange
from app.relay.memory import Memory
from app.relay.meter import Meter
from app.relay.prepare import prepare
from app.relay.registry import Place, Registry
from app.sealing import Sealer
from app.settings import RelaySettings
from app.state.ledger import Endpoint
from app.state.records import NO_ACCOUNT, ApiKey
from app.upstream.account import Account
from app.upstream.call import UpstreamCall
from app.upstream.connect import UpstreamClient
from app.wire.requests import CreateRequest

_ESTIMATED = ((b"content-type", b"application/json"), (b"x-antiphon-estimated", b"true"))
_LONGEST_LOGGED = 200
_CLIENT_LEFT = 499

_Answer = tuple[Sequence[RawHeader], bytes]


class _NotCountedError(AntiphonError):
    """The walk through the pool has come to an account whose upstream counts no tokens."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.account = account


class ContextCalls:
    """Serves them where a create call would go. What the account's upstream there does not offer is done here."""

    def __init__(
        self,
        *,
        upstream: UpstreamClient,
        memory: Memory,
        conversations: Conversations,
        registry: Registry,
        compactor: Compactor,
        meter: Meter,
        sealer: Sealer,
        settings: RelaySettings,
        keeping_upstreams: Collection[str],
        offload: Offload,
        max_context_bytes: int,
    ) -> None:
        self._offload = offload
        self._max_context_bytes = max_context_bytes
        self._meter = meter
        self._upstream = upstream
        self._memory = memory
        self._conversations = conversations
        self._registry = registry
        self._compactor = compactor
        self._sealer = sealer
        self._settings = settings
        self._keeping_upstreams = keeping_upstreams

    async def compact(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        place: Place,
    ) -> None:
        """Answer one compact call. Raises ApiError."""
        await self._serve(
            request,
            caller,
            headers,
            self._client(send, connection),
            place,
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
        place: Place,
    ) -> None:
        """Answer one call for the number of input tokens: upstream's, or an estimate that says so. Raises ApiError."""
        client = self._client(send, connection)
        await self._serve(request, caller, headers, client, place, endpoint="input_tokens", work=self._count)

    def _client(self, send: Send, connection: Connection) -> Client:
        return Client(send, connection, self._registry, keep_alive_seconds=0)

    async def _serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        client: Client,
        place: Place,
        *,
        endpoint: Endpoint,
        work: Callable[[Exchange, UpstreamCall, Reserve], Awaitable[_Answer]],
    ) -> None:
        note(model=request.model[:_LONGEST_LOGGED])
        place.ends_by(client.stop)
        async with self._meter.call(request, caller, endpoint=endpoint) as metered:
            memory = self._memory
            if request.conversation_id is not None:
                memory = await self._conversations.open(caller.project_id, request.conversation_id, memory)
            room = ContextRoom(self._max_context_bytes, place.bytes)
            exchange = await prepare(
                request, caller, memory, keep=False, sealer=self._sealer, room=room, offload=self._offload
            )
            call = upstream_call(exchange, headers, self._keeping_upstreams, metered.entry)
            if endpoint == "compact":
                await metered.asks(exchange)
            try:
                with client:
                    told, body = await work(exchange, call, place.bytes.add)
                    await client.answer(200, metered.dressed(told), body)
            except ClientGoneError:
                note(client_gone=True)
                metered.entry.status = _CLIENT_LEFT
            except ShutdownError:
                if not client.begun:
                    raise OverloadedError("The gateway is shutting down. Please retry your request.") from None

    async def _count(self, exchange: Exchange, call: UpstreamCall, reserve: Reserve) -> _Answer:
        if not call.model:
            return await self._estimate(exchange, exchange.prefer or NO_ACCOUNT)

        def render(account: Account) -> bytes:
            if not account.upstream.offers("input_tokens"):
                raise _NotCountedError(account)
            return exchange.standalone(account)

        counted = replace(call, render=render, stream=False, endpoint="input_tokens", without_reasoning=None)
        try:
            answer = await self._upstream.open(counted)
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

        tokens = await self._offload.run(exchange.size, estimate)
        return _ESTIMATED, orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens})
