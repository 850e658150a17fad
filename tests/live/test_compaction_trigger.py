"""An input that ends in a compaction trigger is answered by one compaction, and the trigger is never history."""

from typing import Any

import httpx
import pytest

from tests.builders import says, user
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.streams import events, response
from tests.fakes.surfaces import DONE, SURFACES, respond
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SUMMARY = "The word is TEAL."
USAGE = {"input_tokens": 90, "output_tokens": 9, "total_tokens": 99}
TRIGGER: Any = {"type": "compaction_trigger"}
TURN: list[Any] = [user("Remember TEAL."), says("Yes.", "msg_0"), TRIGGER]


def summarised(upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, {**response("resp_up", "completed", [says(SUMMARY)]), "usage": USAGE}))


def sent(upstream: FakeUpstream) -> list[dict[str, Any]]:
    given = upstream.requests[-1].json["input"]
    assert isinstance(given, list)
    return given


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("store", [True, False])
async def test_the_answer_is_one_compaction_where_upstream_makes_none(
    gateway: LiveGateway, upstream: FakeUpstream, surface: str, store: bool
) -> None:
    summarised(upstream)
    made = await respond(gateway, surface, input=TURN, store=store)
    assert (made["status"], made["usage"]) == ("completed", USAGE)
    [item] = made["output"]
    assert item.keys() == {"id", "type", "encrypted_content"}
    assert item["type"] == "compaction"
    asked = upstream.requests[-1].json
    assert (asked["store"], asked.get("stream")) == (False, None)
    assert [item["type"] for item in sent(upstream)] == ["message"] * 3
    # Whoever goes on from it has the summary in its place.
    await respond(gateway, "whole", input=[item, user("Which word?")], store=False)
    assert SUMMARY in str(sent(upstream))
    if store:
        await respond(gateway, surface, input="Which word?", previous_response_id=made["id"])
        assert SUMMARY in str(sent(upstream))
        assert "Remember TEAL." in str(sent(upstream))
        assert TRIGGER not in sent(upstream)


async def test_the_trigger_is_neither_stored_nor_listed(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    summarised(upstream)
    made = await respond(gateway, "whole", input=TURN)
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers()) as client:
        listed = (await client.get(f"/responses/{made['id']}/input_items")).json()["data"]
        assert [item["type"] for item in listed] == ["message", "message"]
        kept = (await client.get(f"/responses/{made['id']}")).json()
        assert kept["output"] == made["output"]
        conversation = (await client.post("/conversations", json={"items": TURN})).json()["id"]
        items = (await client.get(f"/conversations/{conversation}/items")).json()["data"]
        assert [item["type"] for item in items] == ["message", "message"]
    summarised(upstream)
    made = await respond(gateway, "whole", input=[TRIGGER], conversation=conversation)
    assert [item["type"] for item in made["output"]] == ["compaction"]
    await respond(gateway, "whole", input="Which word?", conversation=conversation)
    assert SUMMARY in str(sent(upstream))
    assert TRIGGER not in sent(upstream)


async def test_the_events_are_those_of_any_response(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    summarised(upstream)
    async with httpx.AsyncClient(base_url=sqlite_gateway.base_url, headers=sqlite_gateway.headers()) as client:
        answer = await client.post("/responses", json={"model": "demo", "input": TURN, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content.endswith(DONE)
    told = events(answer.content.removesuffix(DONE))
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in told] == [0, 1, 2, 3, 4]
    assert told[3]["item"] == told[4]["response"]["output"][0]
    assert (told[0]["response"]["output"], told[0]["response"]["usage"]) == ([], None)


async def test_an_upstream_that_compacts_is_asked_itself(sqlite_url: str, upstream: FakeUpstream) -> None:
    item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAA"}
    upstream.respond = lambda _: Reply.json(200, response(f"resp_{len(upstream.requests)}", "completed", [item]))
    compacting = upstream_settings(upstream.url, "sk-one", endpoints=["compact"])
    async with running_gateway(sqlite_url, [compacting]) as gateway:
        first = await respond(gateway, "whole", input=TURN)
        assert first["output"] == [item]
        assert sent(upstream) == [TURN[0], TURN[1], TRIGGER]
        # A chain goes with it, and the trigger stays last.
        await respond(gateway, "whole", input=[user("More."), TRIGGER], previous_response_id=first["id"])
        assert [each["type"] for each in sent(upstream)] == ["compaction", "message", "compaction_trigger"]


async def test_a_trigger_that_is_not_the_last_word_is_no_part_of_the_context(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    for store in (True, False):
        made = await respond(sqlite_gateway, "whole", input=[TRIGGER, user("Hello.")], store=store)
        assert [item["type"] for item in made["output"]] == ["message"]
        assert sent(upstream) == [user("Hello.")]


async def test_with_nothing_to_compact_the_call_is_refused(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    refused = await respond(sqlite_gateway, "whole", input=[TRIGGER])
    assert (refused["status"], refused["error"]["param"]) == (400, "input")
    assert not upstream.requests


async def test_without_a_summary_there_is_no_compaction_and_nothing_is_kept(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.json(200, response("resp_up", "completed", [])))
    refused = await respond(sqlite_gateway, "whole", input=TURN)
    assert (refused["status"], refused["error"]["code"]) == (502, "compaction_failed")
