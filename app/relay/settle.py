"""The end of a turn: what it leaves in the database, committed before anyone is told."""

import time

from app.errors import UpstreamError
from app.observability.logging import note
from app.relay.prepare import OpenTurn
from app.state.compaction import placed
from app.state.items import bind, output_items
from app.state.records import StoredResponse, Usage
from app.wire import response

_SECONDS_PER_DAY = 86_400
# What a column of the database holds.
_LARGEST_COUNT = 2**63 - 1


class Settler:
    """Keeps finished turns, each in the memory that it has; one without leaves nothing."""

    def __init__(self, default_retention_days: int) -> None:
        self._default_retention_days = default_retention_days

    async def settle(self, turn: OpenTurn, account: str, raw: bytes | None) -> bytes | None:
        """Commit this response object as the turn's outcome; returns it as the client asked for it.

        Raises StorageError when the commit could not be made in time, and UpstreamError when these bytes are no
        response object and so cannot be kept; where nothing is to be kept it returns None for them.
        """
        facts = response.read(raw) if raw is not None else None
        if raw is None or facts is None:
            if turn.memory is not None:
                raise not_a_response()
            return None
        if turn.compaction is not None:
            facts = placed(turn.compaction, facts)
        body = facts.as_asked(
            store=turn.store,
            previous_response_id=turn.previous_response_id,
            conversation_id=turn.conversation_id,
            background=turn.background,
            background_id=turn.background_id,
        )
        usage = _usage(facts)
        note(
            response_id=turn.background_id or facts.id,
            response_status=facts.status,
            stored=turn.store,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
        )
        if turn.entry is not None:
            turn.entry.usage = usage
            turn.entry.response_id = turn.background_id or facts.id
            turn.entry.response_status = facts.status
            turn.entry.model_served = facts.model
        if turn.memory is not None:
            await turn.memory.save(self._stored(turn, account, facts, body, usage))
        return body

    def _stored(
        self, turn: OpenTurn, account: str, facts: response.ResponseFacts, body: bytes, usage: Usage | None
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
            items=(bind(turn.items, account) if account else turn.items) + output_items(facts.output, account),
        )


def not_a_response() -> UpstreamError:
    """Upstream's answer cannot be read as a response object."""
    return UpstreamError("Upstream's answer is not a response object.", code="upstream_invalid_answer")


def _usage(facts: response.ResponseFacts) -> Usage | None:
    counts = facts.usage
    if counts is None:
        return None
    return Usage(
        input_tokens=_count(counts, "input_tokens"),
        output_tokens=_count(counts, "output_tokens"),
        total_tokens=_count(counts, "total_tokens"),
        cached_tokens=_count(counts.get("input_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(counts.get("output_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if type(value) is int and 0 <= value <= _LARGEST_COUNT else 0
