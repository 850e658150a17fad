"""An input item with a stored id and less than its content stands for what is stored, on every way into a context."""

from typing import Any

import httpx
import orjson
import pytest

from tests.builders import calls, says, thinks, user
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import response
from tests.fakes.surfaces import SURFACES, respond
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

IMAGE: Any = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "AAAA"}
IMAGE_STUB: Any = {"type": "image_generation_call", "id": "ig_1"}
THOUGHT_STUB: Any = {"type": "reasoning", "id": "rs_1", "summary": []}
ANSWER: Any = {"type": "function_call_output", "call_id": "call_1", "output": "20"}


def says_first(upstream: FakeUpstream, *output: Any) -> None:
    """Have the upstream answer so once, and with a message from then on."""

    def answer(request: Recorded) -> Reply:
        number = len(upstream.requests)
        said = response(f"resp_{number}", "completed", output if number == 1 else [says("Done.", f"msg_{number}")])
        if not request.json.get("stream"):
            return Reply.json(200, said)
        event = b'event: response.completed\ndata: {"type":"response.completed","sequence_number":0,"response":%b}\n\n'
        return Reply.sse([event % orjson.dumps(said)])

    upstream.respond = answer


def sent(upstream: FakeUpstream) -> list[dict[str, Any]]:
    given = upstream.requests[-1].json["input"]
    assert isinstance(given, list)
    return given


async def get(gateway: LiveGateway, path: str) -> Any:
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers()) as client:
        return (await client.get(path)).json()


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("store", [True, False])
async def test_a_bare_image_call_is_the_image(
    gateway: LiveGateway, upstream: FakeUpstream, surface: str, store: bool
) -> None:
    says_first(upstream, IMAGE, says("Here."))
    await respond(gateway, "whole", input=[user("Draw.")])
    made = await respond(gateway, surface, input=[user("Draw."), IMAGE_STUB, user("In red.")], store=store)
    assert made["status"] == "completed"
    assert sent(upstream)[1] == IMAGE
    if store:
        listed = (await get(gateway, f"/responses/{made['id']}/input_items?order=asc"))["data"]
        assert listed[1] == IMAGE


@pytest.mark.parametrize("summary", [[], [{"type": "summary_text", "text": "Hm."}]])
async def test_a_thought_without_its_content_is_the_thought(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, summary: list[Any]
) -> None:
    says_first(upstream, {**thinks(), "summary": summary}, calls())
    await respond(sqlite_gateway, "whole", input=[user("How warm?")])
    stub = {**THOUGHT_STUB, "summary": summary}
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    made = await respond(sqlite_gateway, "whole", input=[user("How warm?"), stub, call, ANSWER], store=False)
    assert made["status"] == "completed"
    assert sent(upstream)[1] == {"type": "reasoning", "summary": summary, "encrypted_content": "sealed"}


async def test_an_empty_thought_that_nobody_knows_is_not_sent(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    says_first(upstream)
    made = await respond(sqlite_gateway, "whole", input=[user("Hi."), THOUGHT_STUB, user("So?")], store=False)
    assert made["status"] == "completed"
    assert [item["type"] for item in sent(upstream)] == ["message", "message"]


async def test_a_stub_of_what_the_chain_holds_is_not_sent_twice(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    says_first(upstream, IMAGE, thinks(), says("Here."))
    first = await respond(gateway, "whole", input=[user("Draw.")])
    given = [IMAGE_STUB, THOUGHT_STUB, user("In red.")]
    second = await respond(gateway, "whole", input=given, previous_response_id=first["id"])
    kinds = ["message", "image_generation_call", "reasoning", "message", "message"]
    assert [item["type"] for item in sent(upstream)] == kinds
    listed = (await get(gateway, f"/responses/{second['id']}/input_items?order=asc"))["data"]
    assert [item["type"] for item in listed] == kinds
    # What was named is what it was, for whoever names it next.
    await respond(gateway, "whole", input=[{"type": "item_reference", "id": "ig_1"}, user("In blue.")])
    assert sent(upstream)[0] == IMAGE


async def test_a_stub_in_a_lane_means_what_only_its_connection_remembers(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    says_first(upstream, IMAGE, says("Here."))
    async with SocketClient.to(sqlite_gateway) as client:
        first = await client.respond(input="Draw.", store=False)
        given = [IMAGE_STUB, user("In red.")]
        await client.respond(input=given, store=False, previous_response_id=first["id"])
    assert [item["type"] for item in sent(upstream)] == ["message", "image_generation_call", "message", "message"]


async def test_a_stub_that_is_added_to_a_conversation_stands_there_whole(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    says_first(upstream, IMAGE, says("Here."))
    await respond(gateway, "whole", input=[user("Draw.")])
    async with gateway.client() as client:
        looked: Any = [user("Look:"), IMAGE_STUB]
        conversation = await client.conversations.create(items=looked)
        [_, kept] = (await get(gateway, f"/conversations/{conversation.id}/items?order=asc"))["data"]
        assert kept == IMAGE
        # Said again, it stands there once.
        await respond(gateway, "whole", input=[IMAGE_STUB, user("In red.")], conversation=conversation.id)
        items = (await get(gateway, f"/conversations/{conversation.id}/items?order=asc"))["data"]
    assert [item["type"] for item in sent(upstream)] == ["message", "image_generation_call", "message"]
    assert [item["type"] for item in items] == ["message", "image_generation_call", "message", "message"]


async def test_an_unknown_stub_and_a_foreign_one_are_refused_alike(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    says_first(upstream, IMAGE, says("Here."))
    await respond(gateway, "whole", input=[user("Draw.")])
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(gateway.other_key)) as other:
        for item_id in ("ig_1", "ig_9"):
            given = [{**IMAGE_STUB, "id": item_id}, user("In red.")]
            answer = await other.post("/responses", json={"model": "demo", "input": given})
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == f"Item with id '{item_id}' not found."
    assert len(upstream.requests) == 1


async def test_two_thoughts_of_one_id_are_both_kept_listed_and_named(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    one, two = (thinks("rs_x", encrypted_content=text) for text in ("E1", "E2"))
    search = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    }
    says_first(upstream, one, search, two, says("Found.", "msg_1"))
    first = await respond(gateway, "whole", input=[user("Look it up.")])
    second = await respond(gateway, "whole", input="Thanks.", previous_response_id=first["id"])
    path = f"/responses/{second['id']}/input_items?order=asc&limit=3"
    page = await get(gateway, path)
    page["data"] += (await get(gateway, f"{path}&after={page['last_id']}"))["data"]
    assert [item.get("encrypted_content") for item in page["data"]] == [None, "E1", None, "E2", None, None]
    assert len({item["id"] for item in page["data"]}) == 6
    given: list[Any] = [{"type": "item_reference", "id": item_id} for item_id in ("rs_x", "ws_1", "rs_x", "msg_1")]
    await respond(gateway, "whole", input=[user("Look it up."), *given, user("And?")])
    assert [item.get("encrypted_content") for item in sent(upstream)] == [None, "E1", None, "E2", None, None]
