"""One response from accepted to settled: prepare → connect → pump → settle."""

from collections.abc import Collection, Mapping
from functools import partial

from app.errors import ApiError, OverloadedError, UpstreamError
from app.observability.logging import note
from app.relay.client import Client, ClientGoneError, Connection, Send, ShutdownError
from app.relay.fold import Fold
from app.relay.memory import Memory
from app.relay.prepare import Exchange, OpenTurn, prepare
from app.relay.pump import Pump
from app.relay.registry import Registry
from app.relay.settle import Settler, not_a_response
from app.settings import RelaySettings
from app.state.records import ApiKey
from app.upstream.account import upstream_name
from app.upstream.answer import UpstreamAnswer
from app.upstream.connect import UpstreamCall, UpstreamClient
from app.wire.requests import CreateRequest

_STREAM_HEADERS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_EVENT_STREAM = "text/event-stream"
# Of what a client calls its model, as much as a line of the log shows.
_LONGEST_LOGGED = 200


class Relay:
    """Serves create calls. Streamed and whole answers differ only in who reads upstream's bytes.

    `memory` has what is stored. `keeping_upstreams` are the names of those that keep chains themselves.
    """

    def __init__(
        self,
        *,
        upstream: UpstreamClient,
        memory: Memory,
        registry: Registry,
        settler: Settler,
        settings: RelaySettings,
        write_timeout_seconds: float,
        keeping_upstreams: Collection[str],
    ) -> None:
        self._keeping_upstreams = keeping_upstreams
        self._upstream = upstream
        self._memory = memory
        self._registry = registry
        self._settler = settler
        self._settings = settings
        self._write_timeout_seconds = write_timeout_seconds

    async def serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        lane: Memory | None = None,
    ) -> None:
        """Answer one create call. Raises ApiError while nothing has been sent; after that an error is an event.

        A call on a `lane` is remembered there, also where the client has nothing stored.
        """
        note(model=request.model[:_LONGEST_LOGGED], stream=request.stream)
        client = Client(
            send,
            connection,
            self._registry,
            keep_alive_seconds=self._settings.keep_alive_seconds,
            write_timeout_seconds=self._write_timeout_seconds,
        )
        pump: Pump | None = None
        with self._registry.run(client.stop):
            exchange = await prepare(request, caller, lane or self._memory, keep=request.store or lane is not None)
            turn, fold = exchange.turn, Fold(request.fields, self._settings.max_answer_bytes)
            call = self._call(exchange, headers)
            # A running stream holds what its settling needs, and not the prompt.
            del request, exchange
            try:
                async with client:
                    answer = await self._upstream.open(call)
                    del call
                    note(account=answer.account.name)
                    try:
                        if answer.content_type == _EVENT_STREAM:
                            pump = self._pump(turn, fold, answer, client)
                            await client.begin_stream(answer.status, [*answer.headers, *_STREAM_HEADERS])
                            await pump.run()
                        else:
                            await self._relay_whole(turn, answer, client)
                    except ApiError as error:
                        # Upstream has done its work: an SDK that tries again by itself would pay for it twice.
                        error.headers = {**error.headers, "x-should-retry": "false"}
                        raise
                    finally:
                        await answer.aclose()
            except ClientGoneError:
                note(client_gone=True)
                if pump is not None:
                    await pump.abandon()
            except ShutdownError:
                if not client.begun:
                    raise OverloadedError("The gateway is shutting down. Please retry your request.") from None
                if pump is not None:
                    await pump.fail("gateway_shutdown", "The gateway was stopped before the response was finished.")
                    await client.end_stream()

    def _call(self, exchange: Exchange, headers: Mapping[str, str]) -> UpstreamCall:
        return UpstreamCall(
            model=exchange.request.model,
            render=exchange.render,
            stream=exchange.request.stream,
            prefer=exchange.prefer,
            only=self._holder(exchange),
            headers=headers,
        )

    def _holder(self, exchange: Exchange) -> str | None:
        """The one account that can continue this chain: its upstream keeps it."""
        if not self._keeping_upstreams or exchange.prefer is None:
            return None
        return exchange.prefer if upstream_name(exchange.prefer) in self._keeping_upstreams else None

    def _pump(self, turn: OpenTurn, fold: Fold, answer: UpstreamAnswer, client: Client) -> Pump:
        return Pump(
            answer,
            client,
            fold,
            partial(self._settler.settle, turn, answer.account.name),
            max_event_bytes=self._settings.max_event_bytes,
        )

    async def _relay_whole(self, turn: OpenTurn, answer: UpstreamAnswer, client: Client) -> None:
        chunks: list[bytes] = []
        room = self._settings.max_answer_bytes
        while chunk := await answer.read():
            chunks.append(chunk)
            room -= len(chunk)
            if room < 0:
                raise UpstreamError("Upstream's answer is larger than this gateway accepts.", code="upstream_too_large")
        body = await self._settler.settle(turn, answer.account.name, b"".join(chunks))
        if body is None:
            raise not_a_response()
        await client.answer(answer.status, answer.headers, body)
