"""The end of a turn: what it leaves in the database, committed before anyone is told."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from app.byte_budget import reserve_nothing
from app.errors import StorageError, UpstreamError
from app.observability.logging import note
from app.offload import Offload
from app.relay.exchange import OpenTurn
from app.state.compaction import placed
from app.state.estimate import estimate_items
from app.state.items import bind, output_items, storable
from app.state.packing import pack
from app.state.records import StoredResponse, Usage
from app.state.runs import IN_FLIGHT
from app.storage.response_store import DUPLICATE_RESPONSE
from app.wire import response
from app.wire.body import LARGE_BYTES, is_large

_Outcome: TypeAlias = tuple[response.ResponseFacts, Usage | None, int | None, bytes, StoredResponse | None]

_SECONDS_PER_DAY = 86_400
# The statuses that agree with a terminal event, the first of them for an object that says another. There is no event of
# its own for a response that was cancelled, and `response.done` says nothing but that there is an end.
_ENDS: Mapping[str, Sequence[str]] = MappingProxyType(
    {"failed": ("failed", "cancelled"), "done": ("completed", "incomplete", "failed", "cancelled")}
)


class Settler:
    """Keeps finished turns, each in the memory that it has; one without leaves nothing.

    `now` tells the time (unix seconds) by which a turn's expiry is set: the database's, which all replicas agree on.
    """

    def __init__(self, default_retention_days: int, offload: Offload, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._default_retention_days = default_retention_days
        self._offload = offload

    async def settle(
        self,
        turn: OpenTurn,
        account: str,
        raw: bytes | None,
        status: str | None = None,
        delivered: Sequence[bytes] = (),
    ) -> bytes | None:
        """Commit this response object as the turn's outcome; returns it as the client asked for it.

        `status` is how it ended by the event that it came in, where it came in one, and outranks what the object says
        of itself. `delivered` are the items that came before that event: they are the output of an object without any.
        Only what upstream runs in the background goes on.

        Raises StorageError when the commit could not be made in time, or (DUPLICATE_RESPONSE) the id is that of another
        turn of the project, and UpstreamError when these bytes are no response object and so cannot be kept; where
        nothing is to be kept it returns None for them.
        """
        outcome = None
        if raw is not None:
            outcome = (
                await self._offload.run(len(raw) + turn.size, self._outcome, turn, account, raw, status, delivered)
                if turn.is_large or is_large(raw) or sum(map(len, delivered)) >= LARGE_BYTES
                else self._outcome(turn, account, raw, status, delivered)
            )
        if outcome is None:
            if turn.memory is not None:
                raise not_a_response()
            return None
        facts, usage, untold, body, stored = outcome
        note(
            response_id=turn.background_id or facts.id,
            response_status=facts.status,
            stored=turn.store,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
        )
        entry = turn.entry
        if entry is not None:
            entry.usage = usage
            entry.is_metered = untold is None
            entry.relayed_tokens = max(entry.relayed_tokens, untold or 0)
            entry.service_tier = facts.service_tier
            entry.response_id = turn.background_id or facts.id
            entry.response_status = facts.status
            entry.model_served = facts.model
            entry.error_code = facts.error_code if facts.status == "failed" else None
            entry.is_stored = turn.store and turn.memory is not None
        if turn.memory is not None and stored is not None:
            try:
                await turn.memory.save(stored)
            except StorageError as error:
                if error.code != DUPLICATE_RESPONSE:
                    raise
                if entry is not None:
                    # The response of this id is another call's.
                    entry.is_stored = False
                if not await _is_kept(turn, stored):
                    raise
        return body

    def _outcome(
        self, turn: OpenTurn, account: str, raw: bytes, status: str | None, delivered: Sequence[bytes]
    ) -> _Outcome | None:
        """What this response object says, what the client gets and what is kept; None when it is no response object.

        Where it does not say what it took, with how many tokens its output has by estimate.
        """
        if turn.secrets is not None:
            # Some upstreams repeat a request with all that is in it.
            raw = turn.secrets.hidden_in(raw)
        facts = response.read(raw)
        if facts is None:
            return None
        if status is not None:
            ends = _ENDS.get(status, (status,))
            facts = facts if facts.status in ends else facts.with_status(ends[0])
        elif facts.status in IN_FLIGHT:
            facts = _ended(turn, facts)
        if delivered and not facts.has_output:
            facts = facts.with_output(delivered)
        if turn.memory is not None and not facts.names_status:
            # Its row has a status, and so has what GET returns.
            facts = facts.with_status(facts.status)
        told = facts.usage or {}
        is_told = bool(told.get("input_tokens") or told.get("output_tokens"))
        untold = None if is_told else estimate_items(facts.output)
        # The summary of a compaction was a call of its own, which is in the ledger already.
        usage = Usage.of(facts.usage, facts.web_searches, facts.file_searches)
        if turn.compaction is not None:
            facts = placed(turn.compaction, facts)
        body = facts.as_asked(
            store=turn.store,
            previous_response_id=turn.previous_response_id,
            conversation_id=turn.conversation_id,
            background=turn.background,
            background_id=turn.background_id,
            created_at=turn.created_at,
        )
        stored = None if turn.memory is None else self._stored(turn, account, facts, usage, body)
        return facts, usage, untold, body, stored

    def _stored(
        self, turn: OpenTurn, account: str, facts: response.ResponseFacts, usage: Usage | None, body: bytes
    ) -> StoredResponse:
        now = int(self._now())
        caller = turn.caller
        days = caller.retention_days if caller.retention_days is not None else self._default_retention_days
        return StoredResponse(
            id=turn.background_id or facts.id,
            project_id=caller.project_id,
            api_key_id=caller.id,
            parent_key=turn.parent_key,
            status=facts.status,
            model=facts.model or turn.model,
            account=account,
            created_at=now,
            expires_at=now + days * _SECONDS_PER_DAY,
            body=body,
            usage=usage,
            # No account has read what no upstream was sent.
            items=storable(
                (bind(turn.items, account) if account else turn.items)
                + output_items(facts.output, account, facts.status)
            ),
        )


def _ended(turn: OpenTurn, facts: response.ResponseFacts) -> response.ResponseFacts:
    """A response that says it is unfinished, with the status that it has as its last word."""
    if turn.background_id is not None:
        message = f"Upstream answered with a response that it had not finished ({facts.status}). (upstream_unfinished)"
        return facts.with_status("failed", {"code": "server_error", "message": message})
    return facts if turn.background else facts.with_status("incomplete")


async def _is_kept(turn: OpenTurn, stored: StoredResponse) -> bool:
    """Whether the response of this id says the same after the same: a cache in front of the model has answered."""
    if turn.memory is None or turn.previous_response_id is not None or turn.conversation_id is not None:
        return False
    chain = await turn.memory.read_chain(stored.project_id, stored.id, stored.created_at, reserve_nothing)
    if chain is None or len(chain.turns) != 1 or chain.turns[0].status != stored.status:
        return False
    return chain.turns[0].content == pack(stored.status, stored.account, stored.items).content


def not_a_response() -> UpstreamError:
    """Upstream's answer cannot be read as a response object."""
    return UpstreamError("Upstream's answer is not a response object.", code="upstream_invalid_answer")
