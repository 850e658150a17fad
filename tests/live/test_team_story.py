"""A team from its first project to its bill: two keys with limits of their own, on two gateways and one database."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess
from tests.fakes.replies import Reply
from tests.fakes.streams import frame
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

ADMIN_KEY = "an admin key of sixteen characters and more"
INPUT_TOKENS, OUTPUT_TOKENS = 90, 10
PARALLEL = 50
ALLOWED = 10
# A revocation is seen by the other gateway after this, and the ledger is written after that.
ELSEWHERE_SECONDS = 5.0
SLACK_SECONDS = 5.0
LEDGER_SECONDS = 30.0


class Upstream:
    """Serves every model for 100 tokens a call. Streams wait for `go` before they end."""

    def __init__(self, fake: FakeUpstream) -> None:
        self.url = fake.url
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()
        fake.respond = self._respond

    def _respond(self, request: Recorded) -> Reply | None:
        if request.method != "POST":
            return None
        self.calls += 1
        body = {
            "id": f"resp_{self.calls:050}",
            "object": "response",
            "created_at": 1,
            "error": None,
            "model": request.json["model"],
        }
        usage: dict[str, Any] = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": 100}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        done = {**body, "status": "completed", "output": [], "usage": usage}
        if not request.json.get("stream"):
            return Reply.json(200, done)
        begun = frame("response.created", 0, response={**body, "status": "in_progress", "output": []})
        return Reply.held([begun], self.go, [frame("response.completed", 1, response=done)])


class Admin:
    """The administration of one gateway, over HTTP."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url}/admin/v1", headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=60
        )

    async def get(self, path: str, **query: Any) -> Any:
        return self._told(await self._http.get(path, params=query))

    async def post(self, path: str, **body: Any) -> Any:
        return self._told(await self._http.post(path, json=body))

    async def aclose(self) -> None:
        await self._http.aclose()

    @staticmethod
    def _told(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json()


class Team:
    """Two gateways, their upstream and their administration."""

    def __init__(self, gateways: list[GatewayProcess], upstream: Upstream) -> None:
        self.gateways = gateways
        self.upstream = upstream
        self.admin = Admin(gateways[0].url)
        self.spent: dict[str, int] = {}

    async def key(self, project: Any, name: str, **policy: Any) -> Any:
        return await self.admin.post("/keys", project_id=project["id"], name=name, policy=policy)

    def client(self, key: Any, gateway: int = 0) -> AsyncOpenAI:
        url = f"{self.gateways[gateway].url}/v1"
        return AsyncOpenAI(base_url=url, api_key=key["key"], max_retries=0)

    async def ask(self, key: Any, model: str, gateway: int = 0, **members: Any) -> int:
        """The status of one call; what it used is noted."""
        async with self.client(key, gateway) as client:
            try:
                response = await client.responses.create(model=model, input="Hi", **members)
            except openai.APIStatusError as error:
                return error.status_code
        assert response.usage is not None
        self.spent[key["id"]] = self.spent.get(key["id"], 0) + response.usage.total_tokens
        return 200

    async def ask_at_once(self, key: Any, model: str, **members: Any) -> list[int]:
        """The statuses of many calls at once, on both gateways in turn."""
        asking = (self.ask(key, model, number % 2, **members) for number in range(PARALLEL))
        return sorted(await asyncio.gather(*asking))


@pytest.fixture
async def team(tmp_path: Path, empty_postgresql_url: str, upstream: FakeUpstream) -> AsyncIterator[Team]:
    served = Upstream(upstream)
    told = {
        "DATABASE_URL": empty_postgresql_url,
        "OPENAI_BASE_URL": served.url,
        "OPENAI_API_KEY": "sk-upstream-one",
        "ANTIPHON_ADMIN_KEY": ADMIN_KEY,
    }
    gateways: list[GatewayProcess] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            gateways.append(ForkedGateway(tmp_path / name, told))
            await asyncio.to_thread(gateways[-1].start)
        team = Team(gateways, served)
        yield team
        await team.admin.aclose()
    finally:
        for gateway in gateways:
            gateway.kill()


def limited(*granted: int) -> list[int]:
    return sorted([*granted, *[429] * (PARALLEL - len(granted))])


@pytest.mark.slow
async def test_two_keys_of_a_project_from_their_creation_to_their_bill(team: Team) -> None:
    project = await team.admin.post("/projects", name="research")
    ada = await team.key(
        project, "ada", models=["gpt-*"], limits={"budgets": [{"period": "day", "tokens": 100_000, "usd": 5.0}]}
    )
    bob = await team.key(project, "bob", models=["llama-*"], limits={"requests_per_minute": ALLOWED})

    # Both work, on both gateways, each with its own models.
    for gateway in (0, 1):
        assert await team.ask(ada, "gpt-5-mini", gateway) == 200
        assert await team.ask(ada, "gpt-5-mini", gateway, stream=False, store=False) == 200
        assert await team.ask(ada, "llama-4", gateway) == 404
        assert await team.ask(bob, "gpt-5-mini", gateway) == 404
        async with team.client(ada, gateway) as client:
            assert {model.id async for model in client.models.list()} <= {"gpt-5-mini"}

    # Of many calls at once, on two processes, as many are served as the limit says.
    before = team.upstream.calls
    assert await team.ask_at_once(bob, "llama-4") == limited(*[200] * ALLOWED)
    assert team.upstream.calls == before + ALLOWED
    async with team.client(bob) as client:
        with pytest.raises(openai.RateLimitError) as refusal:
            await client.responses.create(model="llama-4", input="Hi")
    told = refusal.value.response
    assert told.headers["x-antiphon-error-source"] == "gateway"
    assert 0 < int(told.headers["retry-after"]) <= 60
    assert str(ALLOWED) in refusal.value.message

    # A key that is revoked while its stream runs: the stream ends as it would have, and nothing comes after.
    assert await stream_over_revocation(team, ada, "gpt-5-mini") == ["response.created", "response.completed"]

    # The bill: by key, to the token.
    async with asyncio.timeout(LEDGER_SECONDS):
        while await billed(team) != team.spent:
            await asyncio.sleep(0.2)
    sums = await team.admin.get("/usage", group_by="key,model")
    assert {(row["api_key_id"], row["model"]) for row in sums["data"]} >= {
        (ada["id"], "gpt-5-mini"),
        (bob["id"], "llama-4"),
    }
    # What is asked for a known price has a cost; what has none is not free but unknown.
    costs = {row["model"]: row["cost_usd"] for row in sums["data"] if row["input_tokens"]}
    assert costs["gpt-5-mini"] > 0
    acted = {record["action"] for record in (await team.admin.get("/audit"))["data"]}
    assert {"project.create", "key.create", "key.revoke"} <= acted


async def stream_over_revocation(team: Team, key: Any, model: str) -> list[str]:
    """The events of a stream in whose midst its key is revoked, at one gateway; then it serves on neither."""
    team.upstream.go.clear()
    async with team.client(key) as client:
        stream = await client.responses.create(model=model, input="Hi", stream=True)
        kinds: list[str] = [(await anext(stream)).type]
        await team.admin.post(f"/keys/{key['id']}/revoke")
        revoked = time.monotonic()
        assert await team.ask(key, model) == 401
        team.upstream.go.set()
        kinds += [event.type async for event in stream]
    team.spent[key["id"]] += INPUT_TOKENS + OUTPUT_TOKENS
    while await team.ask(key, model, gateway=1) != 401:
        assert time.monotonic() - revoked < ELSEWHERE_SECONDS + SLACK_SECONDS
        await asyncio.sleep(0.1)
    return kinds


async def billed(team: Team) -> dict[str, int]:
    """The tokens in the ledger, by key; those of keys that used any."""
    sums = await team.admin.get("/usage", group_by="key")
    tokens = {row["api_key_id"]: row["input_tokens"] + row["output_tokens"] for row in sums["data"]}
    return {key: used for key, used in tokens.items() if used}


@pytest.mark.slow
async def test_a_budget_that_is_spent_stops_every_key_of_the_project(team: Team) -> None:
    budget = {"limits": {"budgets": [{"period": "month", "tokens": 1000}]}}
    project = await team.admin.post("/projects", name="frugal", policy=budget)
    keys = [await team.key(project, name) for name in ("ada", "bob")]
    # Ten calls of 100 tokens are the budget; what a call reserves is no more than it uses.
    statuses = [await team.ask(keys[number % 2], "gpt-5-mini", number // 2 % 2) for number in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    async with team.client(keys[0], 1) as client:
        with pytest.raises(openai.RateLimitError) as refusal:
            await client.responses.create(model="gpt-5-mini", input="Hi")
    assert refusal.value.code == "insufficient_quota"
    assert refusal.value.response.headers["x-should-retry"] == "false"
