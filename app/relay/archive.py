"""All that is kept of a project's responses, those that are still being made among them."""

import time
from collections.abc import Collection
from urllib.parse import quote

import orjson

from app.byte_budget import Reserve
from app.errors import InvalidRequestError
from app.relay.blanking import blanked_answer
from app.state.records import Chain, Item, StoredResponse
from app.state.runs import IN_FLIGHT
from app.storage.response_expiry import GRACE_SECONDS
from app.storage.response_store import ResponseStore
from app.storage.run_store import RunStore
from app.upstream.call import UpstreamCall
from app.upstream.connect import UpstreamClient
from app.wire import wording
from app.wire.body import members

KEEP_SECONDS = GRACE_SECONDS / 3
"""How often calls under way extend what they continue: three times before a purge may take it."""

# As `ResponseFacts.as_asked` writes it.
_BACKGROUND = b'"background":true'


class Archive:
    """The memory behind every call. Finished turns are in one store, runs in the background in another."""

    def __init__(
        self, responses: ResponseStore, runs: RunStore, upstream: UpstreamClient, max_answer_bytes: int
    ) -> None:
        self._responses = responses
        self._runs = runs
        self._upstream = upstream
        self._max_answer_bytes = max_answer_bytes

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        """The response and its ancestors. Raises InvalidRequestError for one that is not finished yet."""
        chain = await self._responses.read_chain(project_id, response_id, now, reserve)
        if chain is None:
            run = await self._runs.find(project_id, response_id)
            if run is not None and run.status in IN_FLIGHT:
                raise wording.previous_response_unfinished(response_id, run.status)
        return chain

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        """Those of these items that stand in finished turns."""
        return await self._responses.read_items(project_id, item_ids, now, reserve)

    async def keep_all(self, keys: Collection[int]) -> None:
        """Extend those of these stored turns that a purge may take before this is asked for the next time."""
        await self._responses.keep(keys, least=GRACE_SECONDS, seconds=2 * GRACE_SECONDS)

    async def keep(self, chain: Chain, seconds: float) -> None:
        """See to it that what this chain ends with can be continued for so long."""
        if chain.key is not None:
            await self._responses.keep([chain.key], least=int(seconds), seconds=int(seconds))

    async def save(self, response: StoredResponse) -> None:
        """Keep a finished turn."""
        await self._responses.save(response)

    async def read_body(self, project_id: str, response_id: str, reserve: Reserve) -> bytes | None:
        """The response object as it stands now; where only its upstream knows that, as the upstream tells it."""
        body = await self._responses.read_body(project_id, response_id, int(time.time()), reserve)
        if body is not None:
            # What we run ourselves is stored when it has ended.
            if _BACKGROUND in body and orjson.loads(bytes(members(body).get("status", b"null"))) in IN_FLIGHT:
                return await self._ask_upstream(project_id, response_id, "GET", "", reserve)
            return body
        run = await self._runs.find(project_id, response_id)
        return None if run is None else run.body

    async def cancel_upstream(self, project_id: str, response_id: str, reserve: Reserve) -> bytes:
        """Have the upstream that makes this response in the background end it. Raises UpstreamError, or its refusal."""
        return await self._ask_upstream(project_id, response_id, "POST", "/cancel", reserve)

    async def _ask_upstream(
        self, project_id: str, response_id: str, method: str, action: str, reserve: Reserve
    ) -> bytes:
        account = await self._responses.read_account(project_id, response_id, int(time.time()))
        call = UpstreamCall(
            model="", render=lambda _: b"", stream=False, method=method, path=f"/{quote(response_id, safe='')}{action}"
        )
        answer = await self._upstream.ask(account or "", call)
        try:
            return blanked_answer(answer.account, await answer.read_whole(self._max_answer_bytes, reserve))
        finally:
            await answer.aclose()

    async def delete(self, project_id: str, response_id: str) -> bool:
        """Remove the response and its log; False when there is none. Raises InvalidRequestError while it is made."""
        run = await self._runs.find(project_id, response_id)
        if run is not None and run.status in IN_FLIGHT:
            raise InvalidRequestError("Cannot delete an in-flight response.")
        was_run = run is not None and await self._runs.delete(project_id, response_id)
        return await self._responses.delete(project_id, response_id, int(time.time())) or was_run
