"""The end of a turn: what it leaves in the database, committed before anyone is told."""

import time
from typing import TypeAlias

from app.errors import StorageError, UpstreamError
from app.observability.logging import note
from app.offload import Offload
from app.relay.prepare import OpenTurn
from app.state.compaction import placed
from app.state.items import bind, output_items, storable
from app.state.records import StoredResponse, Usage
from app.state.runs import IN_FLIGHT
from app.storage.response_store import DUPLICATE_RESPONSE
from app.wire import response
from app.wire.body import is_large

_Outcome: TypeAlias = tuple[response.ResponseFacts, Usage | None, bytes, StoredResponse | None]

_SECONDS_PER_DAY = 86_400


class Settler:
    """Keeps finished turns, each in the memory that it has; one without leaves nothing."""

    def __init__(self, default_retention_days: int, offload: Offload) -> None:
        self._default_retention_days = default_retention_days
        self._offload = offload

    async def settle(self, turn: OpenTurn, account: str, raw: bytes | None, status: str | None = None) -> bytes | None:
        """Commit this response object as the turn's outcome; returns it as the client asked for it.

        `status` is how it ended by the event that it came in, where it came in one: an object that says of itself that
        it goes on has ended all the same, and is kept as ended. Only what upstream runs in the background goes on.

        Raises StorageError when the commit could not be made in time, and UpstreamError when these bytes are no
        response object and so cannot be kept; where nothing is to be kept it returns None for them.
        """
        outcome = None
        if raw is not None:
            outcome = (
                await self._offload.run(len(raw) + turn.size, self._outcome, turn, account, raw, status)
                if turn.is_large or is_large(raw)
                else self._outcome(turn, account, raw, status)
            )
        if outcome is None:
            if turn.memory is not None:
                raise not_a_response()
            return None
        facts, usage, body, stored = outcome
        note(
            response_id=turn.background_id or facts.id,
            response_status=facts.status,
            stored=turn.store,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
        )
        entry = turn.entry
        if entry is not None:
            # What a summary took that went before stays, where upstream says nothing of the rest.
            entry.usage = usage or entry.usage
            entry.response_id = turn.background_id or facts.id
            entry.response_status = facts.status
            entry.model_served = facts.model
            entry.error_code = facts.error_code
            entry.is_stored = turn.store and turn.memory is not None
        if turn.memory is not None and stored is not None:
            try:
                await turn.memory.save(stored)
            except StorageError as error:
                if entry is not None and error.code == DUPLICATE_RESPONSE:
                    # The response of this id is another call's.
                    entry.is_stored = False
                raise
        return body

    def _outcome(self, turn: OpenTurn, account: str, raw: bytes, status: str | None) -> _Outcome | None:
        """What this response object says, what the client gets and what is kept; None when it is no response object."""
        if turn.secrets is not None:
            # Some upstreams repeat a request with all that is in it.
            raw = turn.secrets.hidden_in(raw)
        facts = response.read(raw)
        if facts is None:
            return None
        if facts.status in IN_FLIGHT:
            facts = _ended(turn, facts, status)
        if turn.compaction is not None:
            facts = placed(turn.compaction, facts)
        body = facts.as_asked(
            store=turn.store,
            previous_response_id=turn.previous_response_id,
            conversation_id=turn.conversation_id,
            background=turn.background,
            background_id=turn.background_id,
        )
        usage = Usage.of(facts.usage)
        return facts, usage, body, None if turn.memory is None else self._stored(turn, account, facts, usage, body)

    def _stored(
        self, turn: OpenTurn, account: str, facts: response.ResponseFacts, usage: Usage | None, body: bytes
    ) -> StoredResponse:
        now = int(time.time())
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
                (bind(turn.items, account) if account else turn.items) + output_items(facts.output, account)
            ),
        )


def _ended(turn: OpenTurn, facts: response.ResponseFacts, status: str | None) -> response.ResponseFacts:
    """A response that says it is unfinished, with the status that it has as its last word."""
    if status is not None:
        return facts.with_status(status)
    if turn.background_id is not None:
        message = f"Upstream answered with a response that it had not finished ({facts.status}). (upstream_unfinished)"
        return facts.with_status("failed", {"code": "server_error", "message": message})
    return facts if turn.background else facts.with_status("incomplete")


def not_a_response() -> UpstreamError:
    """Upstream's answer cannot be read as a response object."""
    return UpstreamError("Upstream's answer is not a response object.", code="upstream_invalid_answer")
