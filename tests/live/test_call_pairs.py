"""A call and its output go together by what happened, and nothing that a client sent is lost on the way."""

from typing import Any

import pytest

from tests.builders import answers, says, user
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.streams import response
from tests.fakes.surfaces import SURFACES, respond
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.live.test_stubs import says_first, sent

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SCREENSHOT: Any = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"}
PAIRS: tuple[tuple[Any, Any], ...] = (
    (
        {"id": "cu_1", "type": "computer_call", "action": {"type": "screenshot"}, "pending_safety_checks": []},
        {"type": "computer_call_output", "output": SCREENSHOT},
    ),
    (
        {"id": "fc_1", "type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "output": "42"},
    ),
    (
        {"id": "tsc_1", "type": "tool_search_call", "execution": "client", "arguments": {"queries": ["rates"]}},
        {"type": "function_call_output", "output": "one tool found"},
    ),
    (
        {"id": "tsc_1", "type": "tool_search_call", "execution": "client", "arguments": {"queries": ["rates"]}},
        {"type": "tool_search_output", "tools": []},
    ),
)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]['type']}, {pair[1]['type']}")
async def test_a_call_that_is_in_progress_in_a_completed_response_is_answered(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, surface: str, pair: tuple[Any, Any]
) -> None:
    call, output = ({**half, "call_id": "call_1"} for half in pair)
    says_first(upstream, {**call, "status": "in_progress"})
    first = await respond(sqlite_gateway, surface, input=[user("Go.")])
    second = await respond(sqlite_gateway, surface, input=[output], previous_response_id=first["id"])
    assert second["status"] == "completed"
    kinds = ["message", call["type"], output["type"]]
    assert [item["type"] for item in sent(upstream)] == kinds
    # And in the turn after it.
    await respond(sqlite_gateway, surface, input="And?", previous_response_id=second["id"])
    assert [item["type"] for item in sent(upstream)] == [*kinds, "message", "message"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]['type']}, {pair[1]['type']}")
async def test_a_pair_in_a_conversation_or_a_clients_own_history_stays_one(
    gateway: LiveGateway, upstream: FakeUpstream, pair: tuple[Any, Any]
) -> None:
    call, output = ({**half, "call_id": "call_1"} for half in pair)
    says_first(upstream, {**call, "status": "completed"})
    async with gateway.client() as client:
        conversation = await client.conversations.create()
    await respond(gateway, "whole", input=[user("Go.")], conversation=conversation.id)
    assert (await respond(gateway, "whole", input=[user("Well?")], conversation=conversation.id))["status"] == 400
    await respond(gateway, "whole", input=[output], conversation=conversation.id)
    kinds = ["message", call["type"], output["type"]]
    assert [item["type"] for item in sent(upstream)] == kinds
    told = await respond(gateway, "whole", input=[user("Go."), call, output, user("Well?")])
    await respond(gateway, "whole", input="And now?", previous_response_id=told["id"])
    assert [item["type"] for item in sent(upstream)] == [*kinds, "message", "message", "message"]


async def test_what_the_server_ran_itself_needs_no_output(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    search = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "xs_1", "name": "x_search", "input": "q"}
    says_first(upstream, {**search, "status": "completed"}, says("Found."))
    first = await respond(sqlite_gateway, "whole", input=[user("Look it up.")])
    second = await respond(sqlite_gateway, "whole", input="Thanks.", previous_response_id=first["id"])
    assert second["status"] == "completed"
    assert [item["type"] for item in sent(upstream)] == ["message", "custom_tool_call", "message", "message"]


async def test_an_output_may_name_its_tool_in_place_of_a_call(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    says_first(upstream, says("Hello."))
    output = {"type": "function_call_output", "call_id": None, "name": "f", "output": "42"}
    first = await respond(sqlite_gateway, "whole", input="Hi.")
    second = await respond(sqlite_gateway, "whole", input=[output], previous_response_id=first["id"])
    assert second["status"] == "completed"
    await respond(sqlite_gateway, "whole", input="And?", previous_response_id=second["id"])
    assert sent(upstream)[2] == output
    refused = await respond(sqlite_gateway, "whole", input=[{"type": "function_call_output", "output": "42"}])
    assert (refused["status"], refused["error"]["param"]) == (400, "input[0].call_id")


async def test_an_output_for_a_call_that_was_cut_off_is_refused_in_words(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    call = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a',
        "status": "incomplete",
    }
    upstream.enqueue(Reply.json(200, response("resp_1", "incomplete", [call])))
    first = await respond(sqlite_gateway, "whole", input="Go.")
    refused = await respond(sqlite_gateway, "whole", input=[answers()], previous_response_id=first["id"])
    message = "No tool call found for function call output with call_id call_1."
    assert (refused["status"], refused["error"]["message"]) == (400, message)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("is_chained", [True, False], ids=["chained", "named alone"])
async def test_an_approval_goes_to_no_account_but_the_one_that_asked_for_it(
    sqlite_url: str, upstream: FakeUpstream, is_chained: bool
) -> None:
    request = {"id": "mcpr_1", "type": "mcp_approval_request", "name": "f", "arguments": "{}", "server_label": "s"}
    asked: list[str] = []

    def answer(sent: Recorded) -> Reply:
        asked.append(sent.headers["authorization"])
        if len(asked) == 1:
            return Reply.json(200, response("resp_1", "completed", [request]))
        # The account that asked can serve nobody now.
        return Reply.error(503) if asked[-1] == asked[0] else Reply.json(200, response("resp_2", "completed", []))

    upstream.respond = answer
    approval = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    keys = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [keys]) as gateway:
        await respond(gateway, "whole", input=[user("Use the server.")])
        chained = {"previous_response_id": "resp_1"} if is_chained else {}
        told = await respond(gateway, "whole", input=[approval], **chained)
    assert told["status"] >= 500
    assert set(asked) == {asked[0]}
