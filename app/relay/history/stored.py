"""Read and save a project's stored responses, and read the responses that are still being made."""

import time
from collections.abc import Collection, Coroutine
from typing import Any
from urllib.parse import quote

import orjson

from app.errors import InvalidRequestError
from app.relay.stream.redaction import redacted_answer
from app.runtime.byte_budget import Reserve
from app.state.records import Chain, Item, StoredResponse
from app.state.runs import IN_FLIGHT
from app.storage.responses.expiry import GRACE_SECONDS
from app.storage.responses.store import ResponseStore
from app.storage.runs.store import RunStore
from app.upstream.call.upstream_call import UpstreamCall
from app.upstream.call.upstream_client import UpstreamClient
from app.wire import error_messages
from app.wire.json_body import members

KEEP_SECONDS = GRACE_SECONDS / 3
"""How often calls in flight extend the turns that they continue: three times before a purge may take them."""

# As `ResponseFacts.as_asked` writes it.
_BACKGROUND = b'"background":true'


class StoredHistory:
    """Provide the history behind every call. Finished turns are in one store, background runs in another."""

    def __init__(
        self, responses: ResponseStore, runs: RunStore, upstream: UpstreamClient, max_answer_bytes: int
    ) -> None:
        self._responses = responses
        self._runs = runs
        self._upstream = upstream
        self._max_answer_bytes = max_answer_bytes

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """Read the response and its ancestors. Raises InvalidRequestError for a response that is not finished yet."""
        chain = await self._responses.read_chain(project_id, response_id, now, reserve)
        if chain is None:
            run = await self._runs.find(project_id, response_id)
            if run is not None and run.status in IN_FLIGHT:
                raise error_messages.previous_response_unfinished(response_id, run.status)
        return chain

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        """Read the items of these ids that stand in finished turns."""
        return await self._responses.read_items(project_id, item_ids, now, reserve)

    async def keep_all(self, keys: Collection[int]) -> None:
        """Extend the stored turns among these that a purge may take before the next call of this."""
        await self._responses.keep(keys, least=GRACE_SECONDS, seconds=2 * GRACE_SECONDS)

    async def keep(self, chain: Chain, seconds: float) -> None:
        """Extend the last turn of this chain, so that it can be continued for so long."""
        if chain.key is not None:
            await self._responses.keep([chain.key], least=int(seconds), seconds=int(seconds))

    def save(self, response: StoredResponse) -> Coroutine[Any, Any, None]:
        """Save a finished turn."""
        return self._responses.save(response)

    async def read_body(self, project_id: str, response_id: str, reserve: Reserve) -> bytes | None:
        """Read the response object as it stands now; from its upstream where only the upstream knows."""
        body = await self._responses.read_body(project_id, response_id, int(time.time()), reserve)
        if body is not None:
            # A run of ours is stored only when it has ended, so this one is upstream's.
            if _BACKGROUND in body and orjson.loads(bytes(members(body).get("status", b"null"))) in IN_FLIGHT:
                return await self._ask_upstream(project_id, response_id, "GET", "", reserve)
            return body
        run = await self._runs.find(project_id, response_id)
        return None if run is None else run.body

    async def cancel_upstream(self, project_id: str, response_id: str, reserve: Reserve) -> bytes:
        """Cancel a response that its upstream makes in the background. Raises UpstreamError, or upstream's refusal."""
        return await self._ask_upstream(project_id, response_id, "POST", "/cancel", reserve)

    async def _ask_upstream(
        self, project_id: str, response_id: str, method: str, action: str, reserve: Reserve
    ) -> bytes:
        account = await self._responses.read_account(project_id, response_id, int(time.time()))
        call = UpstreamCall(model="", method=method, path=f"/{quote(response_id, safe='')}{action}")
        answer = await self._upstream.ask(account or "", call)
        try:
            return redacted_answer(answer.account, await answer.read_whole(self._max_answer_bytes, reserve))
        finally:
            await answer.aclose()

    async def delete(self, project_id: str, response_id: str) -> bool:
        """Remove the response and its log; False when there is none. Raises InvalidRequestError while it is made."""
        run = await self._runs.find(project_id, response_id)
        if run is not None and run.status in IN_FLIGHT:
            raise InvalidRequestError("Cannot delete an in-flight response.")
        was_run = run is not None and await self._runs.delete(project_id, response_id)
        return await self._responses.delete(project_id, response_id, int(time.time())) or was_run
