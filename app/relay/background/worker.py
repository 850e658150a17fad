"""Work on one background run, from claimed to ended."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from app.errors import ApiError, AuthenticationError, OverloadedError, StorageError, forget_frames
from app.observability.logging import begin_request
from app.relay.background.end_commit import RunCommit
from app.relay.background.errors import (
    LEFT,
    PAUSE_SECONDS,
    StopReason,
    failure_of,
    final_status_of,
    is_transient,
    pause_after,
)
from app.relay.background.event_log import EventLogWriter, replay_log
from app.relay.background.run_dependencies import RunDependencies
from app.relay.background.run_input import open_history, own_items, prepare_run
from app.relay.background.run_request import FIRST_NUMBER, create_request_from, exchange_of
from app.relay.background.start_commit import start
from app.relay.history.conversation import LockedConversation, ReadConversation
from app.relay.process.admission_and_drain import AdmittedCall
from app.relay.stream.accumulator import StreamAccumulator
from app.relay.stream.discarded_log import DiscardedLog
from app.relay.stream.pump import Pump
from app.relay.stream.redaction import redacted_answer
from app.runtime.byte_budget import Reservation
from app.state.records import NO_ACCOUNT
from app.state.runs import Run
from app.upstream.call.answer import UpstreamAnswer
from app.wire import error_messages
from app.wire.responses import events_from_object, response_object

# A prompt is held as the row has it and as it is sent; the turn is held as its items and as the row of them.
_COPIES = 2

_log = structlog.get_logger("antiphon.background")


class RunWorker:
    """Work on a run that this process owns.

    Invariant: upstream is asked only after the run's row says so, and a run whose row says so is never asked for again.
    """

    def __init__(self, run: Run, dependencies: RunDependencies) -> None:
        self._dependencies = dependencies
        self._run_request = run.request
        # The prompt is held until upstream has been asked.
        self.run = run = replace(run, request=replace(run.request, body=b""))
        said = partial(dependencies.signals.changed, run.key)
        self._event_log: EventLogWriter | DiscardedLog = DiscardedLog()
        if run.request.is_streamed:
            self._event_log = EventLogWriter(
                run,
                dependencies.runs,
                said,
                dependencies.registry,
                number=FIRST_NUMBER,
                max_bytes=dependencies.relay.max_answer_bytes,
                max_event_bytes=dependencies.relay.max_event_bytes,
                compute_thread=dependencies.compute_thread,
            )
        self._commit = RunCommit(
            dependencies.runs,
            dependencies.history,
            run,
            self._event_log,
            keep_seconds=dependencies.background.background_keep_seconds,
            wrote=said,
            compute_thread=dependencies.compute_thread,
        )
        self._exchange = exchange_of(run, self._commit)
        dependencies.meter.resume(self._exchange, run)
        self._conversation: ReadConversation | None = None
        self._pump: Pump | None = None
        self._is_started = False
        self._task: asyncio.Task[object] | None = None
        self._stop: StopReason | None = None
        self.was_requeued = False
        """Whether the run waits again, as it cannot begin now."""

    def stop(self, reason: StopReason) -> None:
        """End the run for this reason, unless it is ending already."""
        if self._stop is None and not self._commit.began:
            self._stop = reason
            if self._task is not None:
                self._task.cancel()

    async def work(self) -> None:
        """Work on the run until it has ended, is requeued, or has another owner."""
        begin_request(self.run.request.id)
        try:
            project_id = self.run.request.project_id
            end = partial(self.stop, StopReason.SHUTDOWN)
            with self._dependencies.registry.admit_now(project_id, end, only_ends=self.run.only_ends) as admitted:
                await self._work(admitted)
        except OverloadedError:
            await self._requeue(PAUSE_SECONDS)
        except StorageError as error:
            _log.warning("a run was left", run=self.run.request.id, reason=error.message)
            if not self._is_started:
                await self._requeue(PAUSE_SECONDS)
        finally:
            if self._commit.is_over:
                _log.info("background response ended")
                if not self._commit.is_lost:
                    await self._dependencies.meter.end(self._exchange)
            self._event_log.close()
            if self._conversation is not None:
                await self._conversation.release()

    async def _work(self, admitted: AdmittedCall) -> None:
        self._task = asyncio.current_task()
        failure: ApiError | None = None
        try:
            if self._stop is None:
                answer = await self._open(admitted)
                if answer is not None:
                    await self._listen_to(answer, admitted.bytes)
        except asyncio.CancelledError:
            if self._stop is None or self._task is None:
                raise
            self._task.uncancel()
        except ApiError as error:
            if isinstance(error, StorageError) and error.code == StorageError.default_code:
                raise
            failure = error
        except Exception:  # noqa: BLE001 (whatever broke, the run has to end)
            _log.exception("a run broke", run=self.run.request.id)
            failure = ApiError("The server had an error while processing this response.")
        # A stop from here on meets a run that is ending, and cancels nothing.
        self._task = None
        if failure is not None and self._stop is None:
            await self._fail(failure)
        if self._stop is not None:
            await self._end_early(self._stop)

    async def _open(self, admitted: AdmittedCall) -> UpstreamAnswer | None:
        """Read the request and open upstream's answer; None when there is nothing to be read."""
        run, dependencies, held, exchange = self.run, self._dependencies, admitted.bytes, self._exchange
        caller = await dependencies.keys.get(run.request.api_key_id)
        if caller is None:
            raise AuthenticationError("The API key of this response does not exist any more.")
        exchange.caller = caller
        exchange.reserve = held.add
        held.add_now(len(self._run_request.body) * _COPIES)
        request = await create_request_from(
            self._run_request, dependencies.max_json_depth, dependencies.compute_thread, dependencies.sealer
        )
        self._run_request = run.request
        dependencies.meter.begin(exchange, request, caller)
        self._event_log.secrets = exchange.secrets
        await self._prepare(held)
        admitted.continues = exchange.parent_key
        if run.only_ends:
            await self._end(*final_status_of(run))
        elif not caller.is_usable(int(time.time())):
            raise AuthenticationError("The API key of this response was revoked or ended before the response began.")
        elif not caller.may_use(request.model):
            raise error_messages.inaccessible_model(request.model)
        else:
            return await self._ask_upstream(held)
        return None

    async def _prepare(self, held: Reservation) -> None:
        """Prepare the exchange; where that fails it keeps the call's own input."""
        run_request, dependencies, exchange = self.run.request, self._dependencies, self._exchange
        try:
            history = await open_history(dependencies, self.run, exchange.request)
            if isinstance(history, ReadConversation):
                self._conversation = history
            if isinstance(history, LockedConversation):
                self._commit.conversation = history
            await prepare_run(dependencies, exchange, run_request, history, held=held)
        except ApiError as error:
            if run_request.is_stored and not self._may_wait(error):
                exchange.items = await own_items(run_request, exchange.request, dependencies.compute_thread)
            raise

    async def _ask_upstream(self, held: Reservation) -> UpstreamAnswer | None:
        dependencies, exchange = self._dependencies, self._exchange
        # Where every account is in cooldown, upstream is not asked at all.
        dependencies.upstream.first(exchange)
        if not await start(dependencies.runs, self.run):
            return None
        self._is_started = True
        if exchange.may_be_shortened:
            await dependencies.compactor.shorten(exchange, held.add, dependencies.meter)
        if exchange.compaction is not None:
            await self._event_log.begin_output_with(exchange.compaction.item)
        exchange.answer = StreamAccumulator(exchange.request.fields, dependencies.relay.max_answer_bytes)
        await dependencies.meter.count_history(exchange)
        answer = await dependencies.compactor.open(exchange, held.add)
        exchange.release_prompt()
        held.shrink(exchange.turn_size * _COPIES)
        return answer

    async def _listen_to(self, answer: UpstreamAnswer, held: Reservation) -> None:
        dependencies, exchange = self._dependencies, self._exchange
        settle = partial(dependencies.settler.settle, exchange, answer.account.name)
        try:
            if answer.is_stream and exchange.answer is not None:
                self._pump = Pump(
                    answer,
                    self._event_log,
                    exchange.answer,
                    settle,
                    max_event_bytes=dependencies.relay.max_event_bytes,
                    held=held,
                    compute_thread=dependencies.compute_thread,
                )
                await self._pump.run()
            else:
                raw = await answer.read_whole(dependencies.relay.max_answer_bytes, held.add)
                raw = redacted_answer(answer.account, raw)
                if self.run.request.is_streamed:
                    frames = await dependencies.compute_thread.run(len(raw), events_from_object.frames_of, raw)
                    await self._event_log.write(b"".join(frames))
                await settle(raw)
        finally:
            await answer.aclose()
        if not self._commit.is_over:
            raise ApiError("The response could not be kept.")

    async def _fail(self, error: ApiError) -> None:
        """End the run with this error, unless it only has to wait."""
        forget_frames(error)
        if self.run.only_ends:
            # A run that only ends neither waits nor fails by this error.
            await self._end(*final_status_of(self.run))
        elif self._may_wait(error):
            await self._requeue(pause_after(error, self.run.waited))
        else:
            await self._end("failed", failure_of(error))

    def _may_wait(self, error: ApiError) -> bool:
        """Tell whether the run has the time to wait for the end of this error."""
        is_open = not (self.run.only_ends or self._commit.began)
        has_time = self.run.waited < self._dependencies.background.background_wait_seconds
        return is_open and has_time and is_transient(error, is_started=self._is_started)

    async def _end_early(self, reason: StopReason) -> None:
        match reason:
            case StopReason.CANCELLED:
                if self._pump is not None:
                    await self._pump.abandon()
                if not self._commit.is_over:
                    await self._end("cancelled")
            case StopReason.SHUTDOWN if not self._is_started:
                await self._requeue(0)
            case StopReason.SHUTDOWN:
                if self._pump is not None:
                    await self._pump.fail("gateway_shutdown", "The gateway was stopped before it was finished.")
                if not self._commit.is_over:
                    await self._end("failed", LEFT)
            case StopReason.LOST if self._is_started:
                _log.warning("a run was lost to another process", run=self.run.request.id)

    async def _end(self, status: str, error: Mapping[str, str] | None = None) -> None:
        """End the run as it stands, in upstream's stead."""
        run, limits = self.run, self._dependencies.relay
        raw = response_object.ended(run.body, status, [], error)
        if run.status == "in_progress" and run.request.is_streamed:
            # The owner before has logged some of the response.
            accumulator = StreamAccumulator({}, limits.max_answer_bytes)
            await replay_log(
                self._dependencies.runs, run, accumulator, limits.max_event_bytes, self._dependencies.compute_thread
            )
            raw = accumulator.ended(status, error)
        await self._dependencies.settler.settle(self._exchange, NO_ACCOUNT, raw)

    async def _requeue(self, pause_seconds: int) -> None:
        """Give the run back to the queue, to be claimed by any process after the pause."""
        self.was_requeued = True
        with suppress(StorageError):
            await self._dependencies.runs.put_back(self.run, pause_seconds)
