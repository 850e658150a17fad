"""Make a call once under its idempotency key: repeats attach to it while it runs, then get its answer (ADR 36).

The database says who makes the call, so replicas agree. A repeat at the process that makes it hears it as it comes; at
another it waits for its end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

import structlog

from app.errors import ApiError, ConflictError, OverloadedError, StorageError
from app.ids import new_id
from app.observability.logging import note
from app.relay.client import Client, ClientGoneError, Connection, Send, ShutdownError
from app.relay.limiter import Limiter
from app.relay.recorded_answer import BrokenOffError, FirstClient, RecordedAnswer
from app.relay.registry import Place, Registry
from app.settings import RelaySettings
from app.state.idempotency import Answer, KeyedCall, KeyedRequest, RawHeader
from app.state.records import ApiKey
from app.storage.idempotency_store import IdempotencyStore

LEASE_SECONDS = 30
RENEW_SECONDS = LEASE_SECONDS / 3

# How long a repeat waits for a call of another process, and how often it looks.
_WAIT_SECONDS = 600.0
_LOOK_SECONDS = 0.25
# A stream says what it says more than once: in its deltas, and in what ends an item, a part and the response.
_TIMES_SAID = 8
# An answer that is larger is not kept.
_MOST_KEPT_BYTES = 16 * 1024 * 1024
_MOST_UNFINISHED = 1000
_NO_RETRY = {"x-should-retry": "false"}
_REPLAYED = (b"idempotent-replayed", b"true")

_log = structlog.get_logger("antiphon.idempotency")

Ordered = Callable[[str], Awaitable[None]]
"""Hears of a response in the background, whose events are logged there, before anything is answered."""

Make = Callable[[RecordedAnswer, Ordered], Awaitable[str | None]]
"""Makes a call, and answers it here. Returns the id of the response or the conversation that the answer shows."""


class Idempotency:
    """The calls with idempotency keys of this process."""

    def __init__(
        self,
        store: IdempotencyStore,
        registry: Registry,
        limiter: Limiter,
        *,
        settings: RelaySettings,
    ) -> None:
        self.store = store
        self._registry = registry
        self._limiter = limiter
        self._keep_alive_seconds = settings.keep_alive_seconds
        self._max_bytes = settings.max_answer_bytes * _TIMES_SAID
        # By the owner of the claim.
        self._running: dict[str, RecordedAnswer] = {}
        # Of calls that have ended: what could not be kept yet.
        self._unfinished: dict[str, tuple[KeyedRequest, Answer]] = {}

    async def serve(
        self,
        keyed: KeyedRequest,
        make: Make,
        send: Send,
        connection: Connection,
        *,
        place: Place,
        metered: ApiKey | None,
        keeps: bool,
    ) -> str | None:
        """Answer this request: by the call that it `make`s, or by the one that was made under its key before.

        A repeat counts as a request of the `metered` caller. A call that does not `keep` its answer is known to have
        been made, and no more. Returns the id of the response in the background whose log is the answer, where that is
        not given yet. Raises ApiError while nothing has been sent.
        """
        client = Client(send, connection, self._registry, keep_alive_seconds=self._keep_alive_seconds)
        owner = new_id("claim")
        told: tuple[RawHeader, ...] | None = None
        while (before := await self.store.claim(keyed, owner, LEASE_SECONDS)) is not None:
            if before.fingerprint != keyed.fingerprint:
                raise _reused()
            if told is None:
                told = (_REPLAYED, *(() if metered is None else await self._limiter.repeat(metered)))
                note(is_repeat=True)
            if before.is_logged:
                return before.object_id
            try:
                with client:
                    if before.status is None:
                        is_told = await self._attach(keyed, before, client, told, place)
                    else:
                        is_told = await self._replay(before, client, told, place)
                if is_told:
                    return None
            except ClientGoneError:
                note(client_gone=True)
                return None
            except ShutdownError:
                if client.begun:
                    await client.end_stream()
                    return None
                raise OverloadedError("The gateway is shutting down. Please retry your request.") from None
        with self._registry.budget.reservation(place.project_id) as held:
            record = RecordedAnswer(FirstClient(send, connection), held, self._max_bytes)
            making = self._make(keyed, owner, make, record, client, place, keeps=keeps)
            # The prompt is not to be held here while the answer streams.
            del make
            await making
        return None

    async def renew(self) -> None:
        """Keep the leases of the calls that run here, and the answers that could not be kept before."""
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
        place: Place,
        *,
        keeps: bool,
    ) -> None:
        """Make the call to its end, whoever hears it, and keep what it was answered."""
        self._running[owner] = record
        first = self._registry.spawn(_tell_first(record, client))
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
        place.ends_by(client.stop)
        await first

    async def _hand_over(
        self, keyed: KeyedRequest, owner: str, record: RecordedAnswer, first: asyncio.Task[None], response_id: str
    ) -> None:
        """Have the log of this response in the background be the answer: to the first client, and to all that come."""
        await self._finish(keyed, owner, Answer(200, object_id=response_id, is_logged=True))
        record.hand_over()
        await asyncio.wait([first])

    async def _finish(self, keyed: KeyedRequest, owner: str, answer: Answer) -> None:
        """Keep the answer, now or as soon as that can be: until then the lease is held. Never fails."""
        try:
            await self.store.finish(keyed, owner, answer)
        except StorageError:
            if len(self._unfinished) < _MOST_UNFINISHED:
                self._unfinished[owner] = keyed, answer
                return
        self._running.pop(owner, None)

    async def _forget(self, keyed: KeyedRequest, owner: str, error: BaseException) -> None:
        """Have a call that was not paid for be made by the next that comes. Where that fails its lease runs out."""
        self._running.pop(owner, None)
        if isinstance(error, Exception):
            with suppress(StorageError):
                await self.store.forget(keyed, owner)

    async def _replay(self, before: KeyedCall, client: Client, told: Iterable[RawHeader], place: Place) -> bool:
        """Give the answer that was kept. Raises ConflictError without one."""
        body = await self.store.read_body(before, place.bytes.add) if before.is_kept else None
        if body is None or before.status is None:
            raise not_kept()
        kept = RecordedAnswer.of(Answer(before.status, before.headers, body), place.bytes)
        return await kept.tell(client, told)

    async def _attach(
        self, keyed: KeyedRequest, before: KeyedCall, client: Client, told: Iterable[RawHeader], place: Place
    ) -> bool:
        """Hear the call that runs here, or wait for one that runs elsewhere. False where it is to be looked for again.

        Raises ConflictError for a wait that is too long.
        """
        record = self._running.get(before.owner or "")
        if record is not None and await record.tell(client, told):
            return True
        place.ends_by(client.stop)
        waited = 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            waited += _LOOK_SECONDS
            found = await self.store.find(keyed)
            if record is not None or found is None or found.status is not None:
                return False
            if waited > _WAIT_SECONDS:
                raise _in_use()


async def _tell_first(record: RecordedAnswer, client: Client) -> None:
    """Have the client hear the call that it made, as long as it is there. What breaks off is told by who makes it."""
    with suppress(ClientGoneError, ShutdownError, BrokenOffError), client:
        await record.tell(client)


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
    """The error of a repeat whose answer is not there any more."""
    return ConflictError(
        "The request with this 'Idempotency-Key' was made already, and its answer was not kept: it had 'store' set to "
        "false, was deleted, or was too large or too old. It was not made again.",
        code="idempotency_answer_not_kept",
        headers=_NO_RETRY,
    )
