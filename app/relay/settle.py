"""The end of a turn: what it leaves in the database, committed before anyone is told."""

import time

import structlog

from app.errors import UpstreamError
from app.relay.prepare import Exchange
from app.state.items import bind, output_items
from app.state.records import StoredResponse, Usage
from app.storage.response_store import ResponseStore
from app.wire import response

_SECONDS_PER_DAY = 86_400
# What a column of the database holds.
_LARGEST_COUNT = 2**63 - 1


class Settler:
    """Keeps finished turns. With `store: false` it keeps nothing."""

    def __init__(self, responses: ResponseStore, default_retention_days: int) -> None:
        self._responses = responses
        self._default_retention_days = default_retention_days

    async def settle(self, exchange: Exchange, account: str, raw: bytes | None) -> bytes | None:
        """Commit this response object as the turn's outcome; returns it as the client asked for it.

        Raises StorageError when the commit could not be made in time, and UpstreamError when these bytes are no
        response object and so cannot be kept; where nothing is to be kept it returns None for them.
        """
        facts = response.read(raw) if raw is not None else None
        if raw is None or facts is None:
            if exchange.request.store:
                raise not_a_response()
            return None
        request = exchange.request
        body = response.as_asked(raw, store=request.store, previous_response_id=request.previous_response_id)
        usage = _usage(facts)
        structlog.contextvars.bind_contextvars(
            response_id=facts.id,
            response_status=facts.status,
            stored=request.store,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
        )
        if request.store:
            await self._responses.save(self._stored(exchange, account, facts, body, usage))
        return body

    def _stored(
        self, exchange: Exchange, account: str, facts: response.ResponseFacts, body: bytes, usage: Usage | None
    ) -> StoredResponse:
        now = int(time.time())
        caller = exchange.caller
        days = caller.retention_days if caller.retention_days is not None else self._default_retention_days
        return StoredResponse(
            id=facts.id,
            project_id=caller.project_id,
            api_key_id=caller.id,
            parent_key=exchange.chain.key if exchange.chain else None,
            status=facts.status,
            model=facts.model or exchange.request.model,
            account=account,
            created_at=now,
            expires_at=now + days * _SECONDS_PER_DAY,
            body=body,
            usage=usage,
            items=bind(exchange.items, account) + output_items(facts.output, account),
        )


def not_a_response() -> UpstreamError:
    """Upstream's answer cannot be read as a response object."""
    return UpstreamError("Upstream's answer is not a response object.", code="upstream_invalid_answer")


def _usage(facts: response.ResponseFacts) -> Usage | None:
    counts = facts.usage
    if counts is None:
        return None

    def count(*path: str) -> int:
        value: object = counts
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value if type(value) is int and 0 <= value <= _LARGEST_COUNT else 0

    return Usage(
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        total_tokens=count("total_tokens"),
        cached_tokens=count("input_tokens_details", "cached_tokens"),
        reasoning_tokens=count("output_tokens_details", "reasoning_tokens"),
    )
