"""A warm-up is a call: within its key's limits, in the ledger, and continued before any upstream."""

import asyncio
from typing import Any

import pytest

from app.state.policies import KeyPolicy, Limits
from app.storage.usage.tables import usage, usage_hours
from tests.builders import user
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.limited import keys_with, limited_keys
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import response
from tests.fakes.surfaces import SURFACES, respond
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

_SECONDS = 30.0


def url_of(gateway: LiveGateway) -> str:
    secret = gateway.settings.storage.database_url
    assert secret is not None
    return secret.get_secret_value()


async def warm(gateway: LiveGateway, key: str, count: int, **members: Any) -> list[dict[str, Any]]:
    """The last events of so many warm-ups on one connection."""
    async with SocketClient.to(gateway, additional_headers=gateway.headers(key)) as client:
        return [await client.turn(generate=False, **members) for _ in range(count)]


@pytest.mark.parametrize("store", [True, False])
async def test_warm_ups_are_requests_of_their_key(gateway: LiveGateway, store: bool) -> None:
    [key] = await limited_keys(url_of(gateway), Limits(requests_per_minute=2))
    told = await warm(gateway, key, 4, store=store)
    assert [each["type"] for each in told] == ["response.completed"] * 2 + ["error"] * 2
    assert (told[2]["status"], told[2]["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_they_use_no_tokens_and_end_no_ones_stream(gateway: LiveGateway) -> None:
    [key] = await limited_keys(url_of(gateway), Limits(tokens_per_minute=1000, concurrent_streams=1))
    told = await warm(gateway, key, 3, input="word " * 600)
    assert [each["type"] for each in told] == ["response.completed"] * 3
    told = await warm(gateway, key, 1, input="word " * 6000)
    assert told[0]["error"]["code"] == "rate_limit_exceeded"


async def test_a_model_that_is_not_for_the_key_or_that_nobody_serves_is_refused(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, "sk-one", models=["a-*", "b"])]) as gateway:
        [key] = await keys_with(sqlite_url, KeyPolicy(models=("a-*",)))
        for used, model, code in (
            (key, "b", "model_not_found"),
            (key, "a-1", None),
            (gateway.key, "b", None),
            (gateway.key, "c", "model_not_found"),
        ):
            [told] = await warm(gateway, used, 1, model=model)
            assert (told.get("error") or {}).get("code") == code
        capped = await limited_keys(sqlite_url, Limits(max_output_tokens=50))
        [told] = await warm(gateway, capped[0], 1, model="b", max_output_tokens=51)
        assert told["error"]["param"] == "max_output_tokens"
    assert not upstream.requests


@pytest.mark.parametrize("store", [True, False])
async def test_each_is_an_entry_that_used_nothing(gateway: LiveGateway, upstream: FakeUpstream, store: bool) -> None:
    [warm_up_response] = await warm(gateway, gateway.key, 1, store=store, model="made-up")
    async with asyncio.timeout(_SECONDS):
        while not (found := await asyncio.to_thread(rows, url_of(gateway), usage)):
            await asyncio.sleep(0.05)
    [row] = found
    assert (row["endpoint"], row["status"], row["model"], row["attempts"]) == ("responses", 200, "made-up", 0)
    assert (row["response_id"], row["response_status"]) == (warm_up_response["response"]["id"], "completed")
    assert (row["is_stored"], row["input_tokens"], row["cost_nano"], row["upstream"]) == (store, None, None, None)
    # A name that a client made up, and no model answers to, is in no sum.
    [hour] = await asyncio.to_thread(rows, url_of(gateway), usage_hours)
    assert (hour["requests"], hour["model"], hour["unpriced_requests"], hour["errors"]) == (1, "", 0, 0)
    assert not upstream.requests


class Keeping:
    """An upstream that keeps what it makes, and knows no other id."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.made: list[str] = []
        upstream.respond = self._answer

    def _answer(self, asked: Recorded) -> Reply:
        previous = asked.json.get("previous_response_id")
        if previous is not None and previous not in self.made:
            return Reply.error(400, "previous_response_not_found")
        given = asked.json["input"]
        if isinstance(given, list) and any(item.get("type") == "item_reference" for item in given):
            return Reply.error(404, "item_not_found")
        self.made.append(f"resp_{len(self.made)}")
        said = {"id": f"msg_{len(self.made)}", "type": "message", "role": "assistant", "status": "completed"}
        said["content"] = [{"type": "output_text", "text": "Yes.", "annotations": []}]  # type: ignore[assignment]
        return Reply.json(200, response(self.made[-1], "completed", [said]))


@pytest.mark.parametrize("store", [True, False])
async def test_a_keeping_upstream_is_told_what_a_warm_up_said(
    sqlite_url: str, upstream: FakeUpstream, store: bool
) -> None:
    Keeping(upstream)
    keeping = upstream_settings(upstream.url, "sk-one", state="upstream")
    async with running_gateway(sqlite_url, [keeping]) as gateway, SocketClient.to(gateway) as client:

        async def turn(given: Any, after: str | None, **members: Any) -> str:
            made = await client.respond(input=given, previous_response_id=after, store=store, **members)
            return str(made["id"])

        begun = await turn([user("One.")], None, generate=False)
        first = await turn([user("Two.")], begun)
        assert "previous_response_id" not in upstream.requests[-1].json
        assert [item["content"] for item in upstream.requests[-1].json["input"]] == ["One.", "Two."]  # type: ignore[attr-defined]
        if store:
            # What upstream has made is continued by its id, and so is what comes after that.
            second = await turn([user("Three.")], first)
            assert upstream.requests[-1].json["previous_response_id"] == first
            # A warm-up in the middle of a chain, and one after another.
            again = await turn([user("Four.")], second, generate=False)
            again = await turn([user("Five.")], again, generate=False)
            await turn([user("Six.")], again)
            sent: Any = upstream.requests[-1].json
            assert "previous_response_id" not in sent
            assert [item["content"] for item in sent["input"] if item["role"] == "user"] == [
                *("One.", "Two.", "Three.", "Four.", "Five.", "Six."),
            ]


async def test_a_keeping_upstream_is_told_what_is_named_of_a_warm_up(sqlite_url: str, upstream: FakeUpstream) -> None:
    Keeping(upstream)
    keeping = upstream_settings(upstream.url, "sk-one", state="upstream")
    async with running_gateway(sqlite_url, [keeping]) as gateway, SocketClient.to(gateway) as client:
        await client.respond(input=[{**user("One."), "id": "msg_named"}], generate=False)
        await client.respond(input=[{"type": "item_reference", "id": "msg_named"}, user("Two.")])
    sent: Any = upstream.requests[-1].json["input"]
    assert [item["content"] for item in sent] == ["One.", "Two."]


@pytest.mark.parametrize("path", ["/responses", "/responses/compact"])
async def test_a_keeping_upstream_is_told_what_a_compaction_of_ours_stands_for(
    sqlite_url: str, upstream: FakeUpstream, path: str
) -> None:
    Keeping(upstream)
    keeping = upstream_settings(upstream.url, "sk-one", state="upstream")
    async with running_gateway(sqlite_url, [keeping]) as gateway, gateway.client() as client:
        trigger: Any = {"type": "compaction_trigger"}
        made = await client.responses.create(model="demo", input=[user("One."), trigger])  # type: ignore[list-item]
        assert [item.type for item in made.output] == ["compaction"]
        asked = {"model": "demo", "input": [user("Two.")], "previous_response_id": made.id}
        await client.post(path, body=asked, cast_to=object)
    sent: Any = upstream.requests[-1].json
    assert "previous_response_id" not in sent
    assert next(item["content"] for item in sent["input"]) == "One."


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_stored_warm_up_is_continued_before_a_keeping_upstream_in_each_way(
    sqlite_url: str, upstream: FakeUpstream, surface: str
) -> None:
    Keeping(upstream)
    keeping = upstream_settings(upstream.url, "sk-one", state="upstream")
    async with running_gateway(sqlite_url, [keeping]) as gateway:
        [warm_up_response] = await warm(gateway, gateway.key, 1, input=[user("One.")])
        made = await respond(
            gateway, surface, input=[user("Two.")], previous_response_id=warm_up_response["response"]["id"]
        )
        assert made["status"] == "completed"
        await respond(gateway, surface, input=[user("Three.")], previous_response_id=made["id"])
    told, known = [request.json for request in upstream.requests]
    assert [item["content"] for item in told["input"]] == ["One.", "Two."]  # type: ignore[attr-defined]
    assert known["previous_response_id"] == made["id"]
