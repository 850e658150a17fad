"""Make a call once under its idempotency key: repeats attach to it while it runs, then get its answer (ADR 36).

The database says which process makes the call, so replicas agree. A repeat at that process gets the answer as it comes;
at another it waits for the end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

import structlog

from app.errors import ApiError, ConflictError, StorageError
from app.ids import new_id
from app.observability.logging import note
from app.relay.idempotency.recorded_answer import BrokenOffError, FirstClient, RecordedAnswer
from app.relay.metering.limiter import Limiter
from app.relay.process.admission_and_drain import AdmittedCall, CallRegistry, shutting_down
from app.relay.stream.client import Client, ClientGoneError, Connection, Send, ShutdownError
from app.settings.gateway import RelaySettings
from app.state.idempotency import Answer, KeyedCall, KeyedRequest, RawHeader
from app.state.records import ApiKey
from app.storage.idempotency.store import IdempotencyStore

LEASE_SECONDS = 30
RENEW_SECONDS = LEASE_SECONDS / 3

# How long a repeat waits for a call of another process, and how often it polls.
_WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.25
# A stream has its text more than once: in the deltas, and in the events that end an item, a part and the response.
_TIMES_REPEATED = 8
# An answer that is larger is not kept.
_MOST_KEPT_BYTES = 16 * 1024 * 1024
_MOST_UNFINISHED = 1000
_NO_RETRY = {"x-should-retry": "false"}
_REPLAYED = (b"idempotent-replayed", b"true")

_log = structlog.get_logger("antiphon.idempotency")

OnQueued = Callable[[str], Awaitable[None]]
"""Called with the id of a background response, whose log is the answer, before anything is sent."""

Make = Callable[[RecordedAnswer, OnQueued], Awaitable[str | None]]
"""Makes a call, and answers it here. Returns the id of the response or conversation in the answer."""


class Idempotency:
    """Serve the calls with idempotency keys of this process."""

    def __init__(
        self,
        store: IdempotencyStore,
        registry: CallRegistry,
        limiter: Limiter,
        *,
        settings: RelaySettings,
    ) -> None:
        self.store = store
        self._registry = registry
        self._limiter = limiter
        self._keep_alive_seconds = settings.keep_alive_seconds
        self._max_bytes = settings.max_answer_bytes * _TIMES_REPEATED
        # By the owner of the claim.
        self._running: dict[str, RecordedAnswer] = {}
        # The answers of calls that have ended, which could not be saved yet.
        self._unfinished: dict[str, tuple[KeyedRequest, Answer]] = {}

    async def serve(
        self,
        keyed: KeyedRequest,
        make: Make,
        send: Send,
        connection: Connection,
        *,
        admitted: AdmittedCall,
        metered: ApiKey | None,
        keeps: bool,
    ) -> str | None:
        """Answer this request: by the call that it `make`s, or by the answer of the call made under its key before.

        A repeat counts as a request of the `metered` caller. Of a call that does not `keep` its answer only the fact is
        kept. Returns the id of the background response whose log is the answer, where that is not sent yet. Raises
        ApiError while nothing has been sent.
        """
        client = Client(send, connection, self._registry, keep_alive_seconds=self._keep_alive_seconds)
        owner = new_id("claim")
        replayed: tuple[RawHeader, ...] | None = None
        while (before := await self.store.claim(keyed, owner, LEASE_SECONDS)) is not None:
            if before.fingerprint != keyed.fingerprint:
                raise _reused()
            if replayed is None:
                replayed = (_REPLAYED, *(() if metered is None else await self._limiter.repeat(metered)))
                note(is_repeat=True)
            if before.is_logged:
                return before.object_id
            try:
                with client:
                    if before.status is None:
                        is_answered = await self._attach(keyed, before, client, replayed, admitted)
                    else:
                        is_answered = await self._replay(before, client, replayed, admitted)
                if is_answered:
                    return None
            except ClientGoneError:
                note(client_gone=True)
                return None
            except ShutdownError:
                if client.begun:
                    await client.end_stream()
                    return None
                raise shutting_down() from None
        with self._registry.budget.reservation(admitted.project_id) as held:
            record = RecordedAnswer(FirstClient(send, connection), held, self._max_bytes)
            making = self._make(keyed, owner, make, record, client, admitted, keeps=keeps)
            # The prompt is not to be held here while the answer streams.
            del make
            await making
        return None

    async def renew(self) -> None:
        """Renew the leases of the calls that run here, and save the answers that could not be saved before."""
        if self._running:
            await self.store.renew(list(self._running), LEASE_SECONDS)
        for owner, (keyed, answer) in list(self._unfinished.items()):
            await self.store.finish(keyed, owner, answer)
            del self._unfinished[owner], self._running[owner]

    async def _make(  # noqa: PLR0917
        self,
        keyed: KeyedRequest,
        owner: str,
        make: Make,
        record: RecordedAnswer,
        client: Client,
        admitted: AdmittedCall,
        *,
        keeps: bool,
    ) -> None:
        """Make the call to its end, whether a client listens or not, and save its answer."""
        self._running[owner] = record
        first = self._registry.spawn(_send_to_first(record, client))
        making = make(record, partial(self._hand_over, keyed, owner, record, first))
        del make
        try:
            object_id = await making
        except BaseException as error:
            if not (isinstance(error, ApiError) and error.is_paid):
                await self._forget(keyed, owner, error)
                record.forget()
                await asyncio.wait([first])
                raise
            _log.warning("a call failed that was paid for", status=error.status, code=error.code)
            record.refuse(error)
            object_id = None
        finally:
            del making
        if record.is_handed_over:
            return
        await self._finish(keyed, owner, record.kept(object_id, _MOST_KEPT_BYTES if keeps else 0))
        record.end()
        admitted.on_shutdown(client.stop)
        await first

    async def _hand_over(
        self, keyed: KeyedRequest, owner: str, record: RecordedAnswer, first: asyncio.Task[None], response_id: str
    ) -> None:
        """Make the log of this background response the answer: for the first client, and for all repeats."""
        await self._finish(keyed, owner, Answer(200, object_id=response_id, is_logged=True))
        record.hand_over()
        await asyncio.wait([first])

    async def _finish(self, keyed: KeyedRequest, owner: str, answer: Answer) -> None:
        """Save the answer, now or as soon as that is possible: until then the lease is held. Never fails."""
        try:
            await self.store.finish(keyed, owner, answer)
        except StorageError:
            if len(self._unfinished) < _MOST_UNFINISHED:
                self._unfinished[owner] = keyed, answer
                return
        self._running.pop(owner, None)

    async def _forget(self, keyed: KeyedRequest, owner: str, error: BaseException) -> None:
        """Drop the claim of a call that was not paid for, so that a repeat makes it; else its lease expires."""
        self._running.pop(owner, None)
        if isinstance(error, Exception):
            with suppress(StorageError):
                await self.store.forget(keyed, owner)

    async def _replay(
        self, before: KeyedCall, client: Client, headers: Iterable[RawHeader], admitted: AdmittedCall
    ) -> bool:
        """Send the answer that was kept. Raises ConflictError without one."""
        body = await self.store.read_body(before, admitted.bytes.add) if before.is_kept else None
        if body is None or before.status is None:
            raise not_kept()
        kept = RecordedAnswer.of(Answer(before.status, before.headers, body), admitted.bytes)
        return await kept.send_to(client, headers)

    async def _attach(
        self,
        keyed: KeyedRequest,
        before: KeyedCall,
        client: Client,
        headers: Iterable[RawHeader],
        admitted: AdmittedCall,
    ) -> bool:
        """Send the answer of the call in flight here, or wait for another process's. False where to look again.

        Raises ConflictError for a wait that is too long.
        """
        record = self._running.get(before.owner or "")
        if record is not None and await record.send_to(client, headers):
            return True
        admitted.on_shutdown(client.stop)
        waited = 0.0
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
            found = await self.store.find(keyed)
            if record is not None or found is None or found.status is not None:
                return False
            if waited > _WAIT_SECONDS:
                raise _in_use()


async def _send_to_first(record: RecordedAnswer, client: Client) -> None:
    """Send the first client the answer of its call, while it is connected. `_make` handles a broken call."""
    with suppress(ClientGoneError, ShutdownError, BrokenOffError), client:
        await record.send_to(client)


def _reused() -> ConflictError:
    return ConflictError(
        "Keys for idempotent requests can only be used with the same request that they were first used with. "
        "Try using another 'Idempotency-Key' if you meant to make a different request.",
        code="idempotency_key_reused",
        headers=_NO_RETRY,
    )


def _in_use() -> ConflictError:
    return ConflictError(
        "The request that was first made with this 'Idempotency-Key' is still in progress. Please try again later.",
        code="idempotency_key_in_use",
        headers={"retry-after": "5"},
    )


def not_kept() -> ConflictError:
    """Make the error of a repeat whose answer is not there any more."""
    return ConflictError(
        "The request with this 'Idempotency-Key' was made already, and its answer was not kept: it had 'store' set to "
        "false, was deleted, or was too large or too old. It was not made again.",
        code="idempotency_answer_not_kept",
        headers=_NO_RETRY,
    )
