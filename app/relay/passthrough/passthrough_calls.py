"""Serve calls that are relayed as they came: admit, ask upstream, copy the answer, read its usage."""

from collections.abc import Mapping

from app.errors import CLIENT_LEFT, ApiError
from app.observability.logging import note
from app.relay.metering.meter import Meter, new_entry
from app.relay.passthrough.completion_answer import CompletionAnswer
from app.relay.passthrough.completion_stream import CompletionStream
from app.relay.passthrough.passthrough_call import PassthroughCall
from app.relay.process.admission_and_drain import AdmittedCall, CallRegistry, shutting_down
from app.relay.serve import Relay
from app.relay.stream.client import STREAM_HEADERS, Client, ClientGoneError, Connection, Send, ShutdownError
from app.runtime.byte_budget import Reservation
from app.runtime.compute_thread import ComputeThread
from app.settings.gateway import RelaySettings
from app.settings.upstreams import ChatProfile, UpstreamSettings
from app.state.items.token_estimate import estimate_bytes
from app.state.records import ApiKey, TokenUsage
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.call.upstream_client import UpstreamClient
from app.upstream.chat.profile import profile_of
from app.wire import completion
from app.wire.json_body import is_large
from app.wire.requests.create import CreateRequest
from app.wire.requests.passthrough_request import PassthroughRequest

# A larger answer goes on as it comes: one of embeddings may have 25 MB.
_WHOLE_BYTES = 64 * 1024
# The usage stands at the end of a body, or at its beginning.
_END_BYTES = 4096


class PassthroughCalls:
    """Serve the surfaces whose answers the gateway keeps nothing of."""

    def __init__(
        self,
        *,
        relay: Relay,
        upstream: UpstreamClient,
        meter: Meter,
        registry: CallRegistry,
        settings: RelaySettings,
        compute_thread: ComputeThread,
    ) -> None:
        self._relay_response = relay.serve
        self._upstream = upstream
        self._meter = meter
        self._registry = registry
        self._settings = settings
        self._compute_thread = compute_thread
        self._profiles: dict[str, tuple[UpstreamSettings, ChatProfile]] = {}

    async def serve(
        self,
        request: PassthroughRequest | CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        admitted: AdmittedCall,
    ) -> None:
        """Answer one call; a create call is made as a response, and answered as a chat completion.

        Raises ApiError while nothing has been sent; after that a stream ends with an error.
        """
        if isinstance(request, CreateRequest):
            answer = CompletionAnswer(send, connection, self._compute_thread, includes_usage=True)
            await self._relay_response(request, caller, headers, answer.send, answer, admitted=admitted)
            return
        note(model=request.logged_model, stream=request.stream)
        # A comment has a place in a stream alone.
        keep_alive_seconds = self._settings.keep_alive_seconds if request.stream else 0
        client = Client(send, connection, self._registry, keep_alive_seconds=keep_alive_seconds)
        admitted.on_shutdown(client.stop)
        call = PassthroughCall(
            model=request.model,
            surface=request.surface,
            cache_key=PassthroughCall.cache_key_of(request.fields),
            project_id=caller.project_id,
            stream=request.stream,
            headers=headers,
            entry=new_entry(request, caller, request.surface),
            large_bytes=request.size if request.is_large else 0,
            caller=caller,
            request=request,
            profile_of=self._profile,
        )
        call.entry.input_bytes = request.size
        async with self._meter.metered(call):
            await self._relay(call, client, admitted.bytes)

    async def _relay(self, call: PassthroughCall, client: Client, held: Reservation) -> None:
        stream: CompletionStream | None = None
        try:
            with client:
                answer = await self._upstream.open(call)
                note(account=answer.account.name)
                answers = call.request.answers
                call.request.release()
                held.shrink(0)
                try:
                    if answer.is_stream:
                        stream = call.answer = CompletionStream(
                            answer,
                            client,
                            call.entry,
                            answers=answers,
                            removes_usage=call.adds_usage,
                            max_event_bytes=self._settings.max_event_bytes,
                            held=held,
                        )
                        headers = call.grant.with_limit_headers(answer.headers)
                        await client.begin_stream(answer.status, [*headers, *STREAM_HEADERS])
                        await stream.run()
                    else:
                        await self._relay_body(call, answer, client, held)
                finally:
                    if (usage := call.entry.usage) is not None:
                        note(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
                    await answer.aclose()
        except ClientGoneError:
            # Many clients leave at the last word, and do not wait for the end of the connection's answer.
            if stream is None or not stream.is_over:
                note(client_gone=True)
                call.entry.status = CLIENT_LEFT
        except ShutdownError:
            if not client.begun:
                raise shutting_down() from None
            if stream is not None:
                await stream.fail("gateway_shutdown", "The gateway was stopped before the answer was finished.")
                await client.end_stream()
            else:
                # The connection ends: nothing else tells the client.
                call.entry.response_status, call.entry.error_code = "failed", "gateway_shutdown"

    async def _relay_body(
        self, call: PassthroughCall, answer: UpstreamAnswer, client: Client, held: Reservation
    ) -> None:
        """Relay a whole answer; a large one piece by piece, unless it was generated, which is paid by its usage.

        One that breaks off after its first piece ends the connection: nothing else tells the client.
        """
        headers = call.grant.with_limit_headers(answer.headers)
        try:
            if call.request.generates:
                begun, is_over = await answer.read_whole(self._settings.max_answer_bytes, held.add), True
            else:
                begun, is_over = await _read(answer, _WHOLE_BYTES)
        except ApiError as error:
            error.mark_paid()
            raise
        if is_over:
            await self._note(call, begun, is_whole=True)
            await client.answer(answer.status, headers, begun)
            return
        await client.begin_stream(answer.status, headers)
        sent, piece, end = 0, begun, begun[-_END_BYTES:]
        try:
            while piece and sent <= self._settings.max_answer_bytes:
                sent += len(piece)
                await client.write(piece)
                piece = await answer.read()
                end = (end + piece)[-_END_BYTES:]
        except ApiError as error:
            call.entry.response_status, call.entry.error_code = "failed", error.code
            return
        if piece:
            call.entry.response_status, call.entry.error_code = "failed", "upstream_too_large"
            return
        await self._note(call, begun[:_END_BYTES] + end, is_whole=False)
        await client.end_stream()

    async def _note(self, call: PassthroughCall, body: bytes, *, is_whole: bool) -> None:
        """Note in the call's entry what the answer says of itself; of a large one only its two ends are here."""
        read = completion.facts if is_whole else completion.facts_of_ends
        facts = await self._compute_thread.run(len(body), read, body) if is_large(body) else read(body)
        entry = call.entry
        entry.response_status = "completed"
        entry.model_served, entry.service_tier = facts.model, facts.service_tier
        usage = TokenUsage.of(facts.usage)
        if usage is not None and (usage.output_tokens or not facts.text_bytes):
            entry.usage, entry.is_metered = usage, True
        entry.relayed_tokens = estimate_bytes(facts.text_bytes)

    def _profile(self, upstream: UpstreamSettings) -> ChatProfile:
        known = self._profiles.get(upstream.name)
        if known is None or known[0] is not upstream:
            known = self._profiles[upstream.name] = (upstream, profile_of(upstream))
        return known[1]


async def _read(answer: UpstreamAnswer, most: int) -> tuple[bytes, bool]:
    """Read an answer up to so many bytes; return them, and whether that is all of it. Raises UpstreamError."""
    pieces: list[bytes] = []
    size = 0
    while size <= most:
        piece = await answer.read()
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces), False
