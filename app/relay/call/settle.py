"""Settle the end of a turn: commit what it leaves in the database before the client sees the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from app.errors import StorageError
from app.observability.logging import note
from app.relay.call.exchange import Exchange
from app.runtime.byte_budget import reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.state.items.compacted import with_compaction
from app.state.items.stored_form import bind, output_items, storable
from app.state.items.token_estimate import estimate_items
from app.state.items.turn_packing import pack
from app.state.records import StoredResponse, TokenUsage
from app.state.runs import IN_FLIGHT
from app.storage.responses.store import DUPLICATE_RESPONSE
from app.upstream.faults.classification import not_a_response
from app.wire.json_body import LARGE_BYTES, is_large
from app.wire.responses import response_object

_Outcome: TypeAlias = tuple[response_object.ResponseFacts, TokenUsage | None, int | None, bytes, StoredResponse | None]

_SECONDS_PER_DAY = 86_400
# The statuses that agree with a terminal event; the first is set where the object has another. A cancelled response has
# no event of its own, and `response.done` only says that the stream ends.
_ENDS: Mapping[str, Sequence[str]] = MappingProxyType(
    {"failed": ("failed", "cancelled"), "done": ("completed", "incomplete", "failed", "cancelled")}
)


class Settler:
    """Save finished turns, each in the history of its exchange; without a history nothing is saved.

    `now` returns the time (unix seconds) by which a turn's expiry is set: the database's, which all replicas agree on.
    """

    def __init__(
        self, default_retention_days: int, compute_thread: ComputeThread, now: Callable[[], float] = time.time
    ) -> None:
        self._now = now
        self._default_retention_days = default_retention_days
        self._compute_thread = compute_thread

    async def settle(
        self,
        exchange: Exchange,
        account: str,
        raw: bytes | None,
        status: str | None = None,
        delivered: Sequence[bytes] = (),
    ) -> bytes | None:
        """Commit this response object as the turn's outcome; return it as the client asked for it.

        `status` is the status of the terminal event that the object came in, if any, and outranks the object's own.
        `delivered` are the items that came before that event: they are the output of an object without any. Only a
        response that upstream runs in the background goes on.

        Raises StorageError when the commit could not be made in time, or (DUPLICATE_RESPONSE) another turn of the
        project has the id, and UpstreamError when these bytes are no response object and cannot be saved; where nothing
        is to be saved it returns None for them.
        """
        outcome = None
        if raw is not None:
            outcome = (
                await self._compute_thread.run(
                    len(raw) + exchange.turn_size, self._outcome, exchange, account, raw, status, delivered
                )
                if exchange.request.is_large
                or exchange.compaction is not None
                or is_large(raw)
                or sum(map(len, delivered)) >= LARGE_BYTES
                else self._outcome(exchange, account, raw, status, delivered)
            )
        if outcome is None:
            if exchange.history is not None:
                raise not_a_response()
            return None
        facts, usage, estimated, body, stored = outcome
        note(
            response_id=exchange.background_id or facts.id,
            response_status=facts.status,
            stored=exchange.request.store,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
        )
        entry = exchange.entry
        entry.usage = usage
        entry.is_metered = estimated is None
        entry.relayed_tokens = max(entry.relayed_tokens, estimated or 0)
        entry.service_tier = facts.service_tier
        entry.response_id = exchange.background_id or facts.id
        entry.response_status = facts.status
        entry.model_served = facts.model
        entry.error_code = facts.error_code if facts.status == "failed" else None
        entry.is_stored = exchange.request.store and exchange.history is not None
        if exchange.history is not None and stored is not None:
            try:
                await exchange.history.save(stored)
            except StorageError as error:
                if error.code != DUPLICATE_RESPONSE:
                    raise
                # Another call has saved a response of this id.
                entry.is_stored = False
                if not await _is_kept(exchange, stored):
                    raise
        return body

    def _outcome(
        self, exchange: Exchange, account: str, raw: bytes, status: str | None, delivered: Sequence[bytes]
    ) -> _Outcome | None:
        """Read this response object: its facts, what the client gets and what is saved; None when it is none.

        Where it states no usage, the output's tokens are estimated.
        """
        if exchange.secrets is not None:
            # Some upstreams repeat the request in the response, secrets included.
            raw = exchange.secrets.redacted_in(raw)
        facts = response_object.read(raw)
        if facts is None:
            return None
        if status is not None:
            ends = _ENDS.get(status, (status,))
            facts = facts if facts.status in ends else facts.with_status(ends[0])
        elif facts.status in IN_FLIGHT:
            facts = _ended(exchange, facts)
        if delivered and not facts.has_output:
            facts = facts.with_output(delivered)
        if exchange.history is not None and not facts.names_status:
            # The row has a status, and so has what GET returns.
            facts = facts.with_status(facts.status)
        stated = facts.usage or {}
        is_stated = bool(stated.get("input_tokens") or stated.get("output_tokens")) and "estimated" not in stated
        estimated = None if is_stated else estimate_items(facts.output)
        # The summary of a compaction was a call of its own, with its own usage entry.
        usage = TokenUsage.of(facts.usage, facts.web_searches, facts.file_searches)
        if exchange.compaction is not None:
            facts = with_compaction(exchange.compaction, facts)
        body = facts.as_asked(
            store=exchange.request.store,
            previous_response_id=exchange.request.previous_response_id,
            conversation_id=exchange.request.conversation_id,
            background=exchange.request.background,
            background_id=exchange.background_id,
            created_at=exchange.created_at,
        )
        stored = None if exchange.history is None else self._stored(exchange, account, facts, usage, body)
        return facts, usage, estimated, body, stored

    def _stored(
        self,
        exchange: Exchange,
        account: str,
        facts: response_object.ResponseFacts,
        usage: TokenUsage | None,
        body: bytes,
    ) -> StoredResponse:
        now = int(self._now())
        caller = exchange.caller
        days = caller.retention_days if caller.retention_days is not None else self._default_retention_days
        return StoredResponse(
            id=exchange.background_id or facts.id,
            project_id=caller.project_id,
            api_key_id=caller.id,
            parent_key=exchange.parent_key,
            status=facts.status,
            model=facts.model or exchange.request.model,
            account=account,
            created_at=now,
            expires_at=now + days * _SECONDS_PER_DAY,
            body=body,
            usage=usage,
            # An input that no upstream was sent is bound to no account.
            items=storable(
                (bind(exchange.items, account) if account else exchange.items)
                + output_items(facts.output, account, facts.status)
            ),
        )


def _ended(exchange: Exchange, facts: response_object.ResponseFacts) -> response_object.ResponseFacts:
    """Give a response that says it is unfinished the status that it ends with."""
    if exchange.background_id is not None:
        message = f"Upstream answered with a response that it had not finished ({facts.status}). (upstream_unfinished)"
        return facts.with_status("failed", {"code": "server_error", "message": message})
    return facts if exchange.request.background else facts.with_status("incomplete")


async def _is_kept(exchange: Exchange, stored: StoredResponse) -> bool:
    """Tell whether the stored response of this id is the same turn: a cache in front of the model answered."""
    if (
        exchange.history is None
        or exchange.request.previous_response_id is not None
        or exchange.request.conversation_id is not None
    ):
        return False
    chain = await exchange.history.read_chain(stored.project_id, stored.id, stored.created_at, reserve_nothing)
    if chain is None or len(chain.turns) != 1 or chain.turns[0].status != stored.status:
        return False
    return chain.turns[0].content == pack(stored.status, stored.account, stored.items).content
