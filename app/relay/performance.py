"""One run in the background, from claimed to ended. Must not know who claims runs, nor who reads what they say."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from app.byte_budget import Reservation
from app.errors import ApiError, AuthenticationError, OverloadedError, StorageError, forget_frames
from app.observability.logging import begin_request
from app.relay.blanking import blanked_answer
from app.relay.calls import upstream_call
from app.relay.conversation import HeldConversation, OpenConversation
from app.relay.ending import Ending
from app.relay.exchange import Exchange, OpenTurn
from app.relay.fold import Fold
from app.relay.journal import Journal, Unheard, recall
from app.relay.order import FIRST_NUMBER, request_of, turn_of
from app.relay.pump import Pump
from app.relay.registry import Place
from app.relay.run_faults import LEFT, PAUSE_SECONDS, Stop, end_of, failure_of, is_passing, pause_after
from app.relay.run_input import open_memory, own_items, prepare_run
from app.relay.stage import Stage
from app.relay.starting import start
from app.state.records import NO_ACCOUNT, ApiKey
from app.state.runs import Run
from app.upstream.answer import UpstreamAnswer
from app.wire import response, response_events, wording
from app.wire.requests import CreateRequest
from app.wire.tools import ToolSecrets

# A prompt is held as it was ordered, and as it is sent; what is kept of it as its items, and as the row of them.
_COPIES = 2

_log = structlog.get_logger("antiphon.background")


class Performance:
    """A run as this process works on it.

    Invariant: upstream is asked only after the run's row says so, and a run whose row says so is never asked for again.
    """

    def __init__(self, run: Run, stage: Stage) -> None:
        self._stage = stage
        self._order = run.order
        # The prompt is held until upstream has been asked.
        self.run = run = replace(run, order=replace(run.order, request=b""))
        said = partial(stage.signals.changed, run.key)
        self._journal: Journal | Unheard = Unheard()
        if run.order.is_streamed:
            self._journal = Journal(
                run,
                stage.runs,
                said,
                stage.registry,
                number=FIRST_NUMBER,
                max_bytes=stage.relay.max_answer_bytes,
                max_event_bytes=stage.relay.max_event_bytes,
                offload=stage.offload,
            )
        self._ending = Ending(
            stage.runs,
            stage.memory,
            run,
            self._journal,
            keep_seconds=stage.background.background_keep_seconds,
            wrote=said,
            offload=stage.offload,
        )
        self._turn = turn_of(run, self._ending)
        self._metered = stage.meter.run(run)
        self._turn.entry = self._metered.entry
        # What was asked is told better once it can be read.
        self._metered.entry.model = self._turn.model
        self._conversation: OpenConversation | None = None
        self._pump: Pump | None = None
        self._is_started = False
        self._task: asyncio.Task[object] | None = None
        self._stop: Stop | None = None
        self.was_left = False
        """Whether it waits again, as it cannot be begun now."""

    def stop(self, reason: Stop) -> None:
        """End it for this reason, unless it is ending already."""
        if self._stop is None and not self._ending.began:
            self._stop = reason
            if self._task is not None:
                self._task.cancel()

    async def perform(self) -> None:
        """Work on the run until it has ended, is left to wait again, or is somebody else's."""
        begin_request(self.run.order.id)
        try:
            project_id = self.run.order.project_id
            end = partial(self.stop, Stop.SHUTDOWN)
            with self._stage.registry.place(project_id, end, only_ends=self.run.only_ends) as place:
                await self._work(place)
        except OverloadedError:
            await self._leave(PAUSE_SECONDS)
        except StorageError as error:
            _log.warning("a run was left", run=self.run.order.id, reason=error.message)
            if not self._is_started:
                await self._leave(PAUSE_SECONDS)
        finally:
            if self._ending.is_over:
                _log.info("background response ended")
                if not self._ending.is_lost:
                    await self._metered.end()
            self._journal.close()
            if self._conversation is not None:
                await self._conversation.release()

    async def _work(self, place: Place) -> None:
        self._task = asyncio.current_task()
        failure: ApiError | None = None
        try:
            if self._stop is None:
                heard = await self._open(place)
                if heard is not None:
                    await self._listen_to(*heard, place.bytes)
        except asyncio.CancelledError:
            if self._stop is None or self._task is None:
                raise
            self._task.uncancel()
        except ApiError as error:
            if isinstance(error, StorageError) and error.code == StorageError.default_code:
                raise
            failure = error
        except Exception:  # noqa: BLE001 (whatever broke, the run has to end)
            _log.exception("a run broke", run=self.run.order.id)
            failure = ApiError("The server had an error while processing this response.")
        # A stop that comes from here on finds a run that is ending, and cancels nothing.
        self._task = None
        if failure is not None and self._stop is None:
            await self._fail(failure)
        if self._stop is not None:
            await self._end_early(self._stop)

    async def _open(self, place: Place) -> tuple[UpstreamAnswer, OpenTurn, Fold] | None:
        """Upstream's answer, and what listening to it needs; None when there is nothing to be heard."""
        run, stage, held = self.run, self._stage, place.bytes
        caller = await stage.keys.get(run.order.api_key_id)
        if caller is None:
            raise AuthenticationError("The API key of this response does not exist any more.")
        self._turn.caller = caller
        held.add_now(len(self._order.request) * _COPIES)
        request = await request_of(self._order, stage.max_json_depth, stage.offload, stage.sealer)
        self._order = run.order
        self._metered.begins(request, caller)
        self._turn.secrets = self._journal.secrets = ToolSecrets.of(request.fields)
        exchange = await self._prepare(request, caller, held)
        place.continues = self._turn.parent_key
        if run.only_ends:
            await self._end(*end_of(run))
        elif not caller.is_usable(int(time.time())):
            raise AuthenticationError("The API key of this response was revoked or ended before the response began.")
        elif not caller.may_use(request.model):
            raise wording.inaccessible_model(request.model)
        else:
            return await self._ask(exchange, held)
        return None

    async def _prepare(self, request: CreateRequest, caller: ApiKey, held: Reservation) -> Exchange:
        """The exchange, in whose turn the run will end; where it cannot be made that keeps the call's own input."""
        order, stage = self.run.order, self._stage
        try:
            memory = await open_memory(stage, self.run, request)
            if isinstance(memory, OpenConversation):
                self._conversation = memory
            if isinstance(memory, HeldConversation):
                self._ending.conversation = memory
            exchange = await prepare_run(stage, order, request, caller, memory, held=held)
        except ApiError as error:
            if order.is_stored and not self._may_wait(error):
                self._turn.items = await own_items(order, request, stage.offload)
            raise
        self._turn = self._ours(exchange)
        return exchange

    async def _ask(self, exchange: Exchange, held: Reservation) -> tuple[UpstreamAnswer, OpenTurn, Fold] | None:
        run, stage, request = self.run, self._stage, exchange.request
        call = upstream_call(exchange, run.order.headers, stage.keeping_upstreams, self._metered.entry)
        # Where every account rests, upstream is not asked at all.
        stage.upstream.first(call)
        if not await start(stage.runs, run):
            return None
        self._is_started = True
        if "context_management" in request.members and not exchange.asks_compaction:
            exchange = await stage.compactor.relieve(exchange, call, held.add, self._metered)
            call = replace(call, render=exchange.render)
        turn = self._turn = self._ours(exchange)
        if turn.compaction is not None:
            await self._journal.begin_output_with(turn.compaction.item)
        fold = self._metered.answer = Fold(request.fields, stage.relay.max_answer_bytes)
        await self._metered.asks(exchange)
        opening = stage.compactor.open(exchange, call, held.add)
        del exchange, request, call
        answer = await opening
        held.shrink(turn.size * _COPIES)
        return answer, turn, fold

    async def _listen_to(self, answer: UpstreamAnswer, turn: OpenTurn, fold: Fold, held: Reservation) -> None:
        settle = partial(self._stage.settler.settle, turn, answer.account.name)
        try:
            if answer.is_stream:
                most, offload = self._stage.relay.max_event_bytes, self._stage.offload
                self._pump = Pump(answer, self._journal, fold, settle, max_event_bytes=most, held=held, offload=offload)
                await self._pump.run()
            else:
                raw = await answer.read_whole(self._stage.relay.max_answer_bytes, held.add)
                raw = blanked_answer(answer.account, raw)
                if self.run.order.is_streamed:
                    frames = await self._stage.offload.run(len(raw), response_events.told, raw)
                    await self._journal.write(b"".join(frames))
                await settle(raw)
        finally:
            await answer.aclose()
        if not self._ending.is_over:
            raise ApiError("The response could not be kept.")

    def _ours(self, exchange: Exchange) -> OpenTurn:
        turn = exchange.turn
        return replace(
            self._turn,
            parent_key=turn.parent_key,
            items=turn.items,
            compaction=turn.compaction,
            is_large=turn.is_large,
        )

    async def _fail(self, error: ApiError) -> None:
        """End the run with this error, unless it only has to wait."""
        forget_frames(error)
        if self.run.only_ends:
            # What it would have waited for, or failed by, is not asked.
            await self._end(*end_of(self.run))
        elif self._may_wait(error):
            await self._leave(pause_after(error, self.run.waited))
        else:
            await self._end("failed", failure_of(error))

    def _may_wait(self, error: ApiError) -> bool:
        """Whether the run has the time to wait for the end of this."""
        is_open = not (self.run.only_ends or self._ending.began)
        has_time = self.run.waited < self._stage.background.background_wait_seconds
        return is_open and has_time and is_passing(error, is_started=self._is_started)

    async def _end_early(self, reason: Stop) -> None:
        match reason:
            case Stop.CANCELLED:
                if self._pump is not None:
                    await self._pump.abandon()
                if not self._ending.is_over:
                    await self._end("cancelled")
            case Stop.SHUTDOWN if not self._is_started:
                await self._leave(0)
            case Stop.SHUTDOWN:
                if self._pump is not None:
                    await self._pump.fail("gateway_shutdown", "The gateway was stopped before it was finished.")
                if not self._ending.is_over:
                    await self._end("failed", LEFT)
            case Stop.LOST if self._is_started:
                _log.warning("a run was lost to another process", run=self.run.order.id)

    async def _end(self, status: str, error: Mapping[str, str] | None = None) -> None:
        """End the run as it stands, in upstream's stead."""
        run, limits = self.run, self._stage.relay
        raw = response.ended(run.body, status, [], error)
        if run.status == "in_progress" and run.order.is_streamed:
            # Another process has logged some of it.
            fold = Fold({}, limits.max_answer_bytes)
            await recall(self._stage.runs, run, fold, limits.max_event_bytes, self._stage.offload)
            raw = fold.ended(status, error)
        await self._stage.settler.settle(self._turn, NO_ACCOUNT, raw)

    async def _leave(self, pause_seconds: int) -> None:
        """Leave the run to anybody, later."""
        self.was_left = True
        with suppress(StorageError):
            await self._stage.runs.put_back(self.run, pause_seconds)
