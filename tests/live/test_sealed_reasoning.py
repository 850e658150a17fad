"""Thoughts that only one account can read: a chain stays with it, and goes on without them when it dies."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.streams import frame
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

KEYS = ("sk-upstream-one", "sk-upstream-two", "sk-upstream-three")
TURNS = 50
LIVED = 30


class Thinkers:
    """An upstream whose keys are of different accounts. Each seals its thoughts, and is sent none of another's."""

    def __init__(self, fake: FakeUpstream) -> None:
        self.dead: set[str] = set()
        self.served: list[str] = []
        self.recalled: list[int] = []
        self.foreign = 0
        fake.respond = self._respond

    def _respond(self, request: Recorded) -> Reply:
        key = request.headers["authorization"].removeprefix("Bearer ")
        if key in self.dead:
            return Reply.error(401, "invalid_api_key")
        said: Any = request.json["input"]
        items = [] if isinstance(said, str) else said
        sealed = [item["encrypted_content"] for item in items if item.get("type") == "reasoning"]
        if any(not blob.startswith(key) for blob in sealed):
            self.foreign += 1
            return Reply.error(400, "invalid_encrypted_content")
        number = len(self.served)
        self.served.append(key)
        self.recalled.append(len(sealed))
        return self._answer(f"resp_{number:050}", f"{key}:{number}", stream=request.json.get("stream") is True)

    @staticmethod
    def _answer(response_id: str, blob: str, *, stream: bool) -> Reply:
        thought = {"id": f"rs_{blob}", "type": "reasoning", "summary": [], "encrypted_content": blob}
        content = [{"type": "output_text", "text": "Yes.", "annotations": []}]
        message = {"id": f"msg_{blob}", "type": "message", "role": "assistant", "status": "completed"}
        output = [thought, {**message, "content": content}]
        made = {"id": response_id, "object": "response", "created_at": 1, "model": "demo", "error": None}
        body = {**made, "status": "completed", "output": output}
        if not stream:
            return Reply.json(200, body)
        begun = {**made, "status": "in_progress", "output": []}
        return Reply.sse([frame("response.created", 0, response=begun), frame("response.completed", 1, response=body)])


@pytest.fixture
def thinkers(upstream: FakeUpstream) -> Thinkers:
    return Thinkers(upstream)


@pytest.fixture
async def gateway(database_url: str, upstream: FakeUpstream, thinkers: Thinkers) -> AsyncIterator[LiveGateway]:
    async with running_gateway(database_url, [upstream_settings(upstream.url, *KEYS)]) as gateway:
        yield gateway


@pytest.mark.parametrize("kept_in", ["chain", "conversation"])
async def test_fifty_turns_stay_with_their_account_and_outlive_it(
    gateway: LiveGateway, thinkers: Thinkers, kept_in: str
) -> None:
    async with gateway.client() as client:
        started = await client.conversations.create()
        last = None
        for number in range(TURNS):
            if number == LIVED:
                thinkers.dead = {thinkers.served[0]}
            where: dict[str, Any] = {"conversation": started.id}
            if kept_in == "chain":
                where = {"previous_response_id": last}
            if number % 2:
                async with client.responses.stream(model="demo", input=f"Turn {number}", **where) as stream:
                    response = await stream.get_final_response()
            else:
                response = await client.responses.create(model="demo", input=f"Turn {number}", **where)
            assert response.status == "completed"
            last = response.id
    assert thinkers.foreign == 0
    # All earlier thoughts came along while it lived; the next account begins with its own.
    assert set(thinkers.served[:LIVED]) == {thinkers.served[0]}
    assert thinkers.recalled[:LIVED] == list(range(LIVED))
    assert len(set(thinkers.served[LIVED:])) == 1
    assert thinkers.served[LIVED] != thinkers.served[0]
    assert thinkers.recalled[LIVED:] == list(range(TURNS - LIVED))


async def test_other_calls_take_turns_on_all_keys(gateway: LiveGateway, thinkers: Thinkers) -> None:
    async with gateway.client() as client:
        for _ in range(60):
            await client.responses.create(model="demo", input="Hi")
    assert set(thinkers.served) == set(KEYS)


async def test_a_prompt_cache_key_stays_with_one_account(gateway: LiveGateway, thinkers: Thinkers) -> None:
    async with gateway.client() as client:
        for _ in range(20):
            await client.responses.create(model="demo", input="Hi", prompt_cache_key="session-1", store=False)
        first = set(thinkers.served)
        assert len(first) == 1
        thinkers.dead = set(first)
        for _ in range(20):
            await client.responses.create(model="demo", input="Hi", prompt_cache_key="session-1", store=False)
    assert len(set(thinkers.served[20:])) == 1
