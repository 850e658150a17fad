"""The items of a chain: calls and their outputs, references to stored items, and the list of what went in."""

from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.responses import Response

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PATCH: Any = {"type": "custom", "name": "apply_patch", "description": "Edit files"}


def sent_to(upstream: FakeUpstream) -> list[dict[str, Any]]:
    """The input items of the latest request."""
    items = upstream.requests[-1].json["input"]
    assert isinstance(items, list)
    return items


def refused(error: APIStatusError) -> tuple[int, str, str | None, str | None, str | None]:
    return error.status_code, error.body["message"], error.type, error.param, error.code  # type: ignore[index]


async def called(client: AsyncOpenAI, text: str, tool: Any) -> tuple[str, str]:
    """The ids of a response that calls the tool, and of its call."""
    response = await client.responses.create(model="demo", input=text, tools=[tool])
    [call] = response.output
    assert call.type in {"function_call", "custom_tool_call"}
    return response.id, call.call_id


async def listed(client: AsyncOpenAI, response_id: str, **query: Any) -> list[dict[str, Any]]:
    """All that went into a response, over as many pages as it takes."""
    return [item.model_dump() async for item in client.responses.input_items.list(response_id, **query)]


@pytest.mark.parametrize(
    ("text", "tool", "words"),
    [
        ("What is the weather in Utrecht?", WEATHER, "function call"),
        ("Apply the patch to the readme.", PATCH, "custom tool call"),
    ],
)
async def test_an_unanswered_call_is_refused_before_upstream_is_asked(
    text: str, tool: Any, words: str, gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        response_id, call_id = await called(client, text, tool)
        with pytest.raises(BadRequestError) as error:
            await client.responses.create(model="demo", input="Well?", previous_response_id=response_id)
    message = f"No tool output found for {words} {call_id}."
    assert refused(error.value) == (400, message, "invalid_request_error", "input", None)
    assert len(upstream.requests) == 1


async def test_an_output_without_its_call_is_refused_before_upstream_is_asked(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(model="demo", input="Hi.")
        stray: Any = {"type": "function_call_output", "call_id": "call_nobody", "output": "22"}
        with pytest.raises(BadRequestError) as error:
            await client.responses.create(model="demo", input=[stray], previous_response_id=first.id)
    message = "No tool call found for function call output with call_id call_nobody."
    assert refused(error.value) == (400, message, "invalid_request_error", "input", None)
    assert len(upstream.requests) == 1


async def test_an_answered_call_stays_in_the_chain_with_its_output(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        response_id, call_id = await called(client, "Apply the patch to the readme.", PATCH)
        output: Any = {"type": "custom_tool_call_output", "call_id": call_id, "output": "Done."}
        answered = await client.responses.create(model="demo", input=[output], previous_response_id=response_id)
        assert answered.output_text == "The tool apply_patch answered: Done."
        await client.responses.create(model="demo", input="Thanks.", previous_response_id=answered.id)
    assert [item["type"] for item in sent_to(upstream)] == [
        *("message", "custom_tool_call", "custom_tool_call_output", "message", "message"),
    ]
    assert sent_to(upstream)[2] == output


async def test_items_of_a_stored_response_can_be_named_in_place_of_sent(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    user: Any = {"role": "user", "content": [{"type": "input_text", "text": "Think."}]}
    async with gateway.client() as client:
        first = await client.responses.create(model="demo", input=[user], reasoning={"effort": "low"})
        thought, message = first.output
        assert thought.type == "reasoning"
        named: list[Any] = [
            user,
            {"type": "item_reference", "id": thought.id},
            {"id": message.id},
            {"role": "user", "content": "And now?"},
        ]
        second = await client.responses.create(model="demo", input=named, reasoning={"effort": "low"})
        assert second.status == "completed"
        items = sent_to(upstream)
        assert [item.get("type", item.get("role")) for item in items] == ["user", "reasoning", "message", "user"]
        assert items[1] == {"type": "reasoning", "summary": [], "encrypted_content": thought.encrypted_content}
        assert items[2]["content"][0]["text"] == first.output_text
        # What was named is an item of the new turn as well, under the same id.
        ids = [item["id"] for item in await listed(client, second.id, order="asc")]
        assert ids[1:3] == [thought.id, message.id]


async def test_a_named_thought_goes_to_the_account_that_can_read_it(sqlite_url: str, upstream: FakeUpstream) -> None:
    keys = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [keys]) as gateway, gateway.client() as client:
        first = await client.responses.create(model="demo", input="Think.", reasoning={"effort": "low"})
        named: list[Any] = [{"type": "item_reference", "id": item.id} for item in first.output]
        # More turns than keys: taking them in turn would not do.
        for _ in range(3):
            await client.responses.create(model="demo", input=[*named, {"role": "user", "content": "And now?"}])
            assert [item.get("type") for item in sent_to(upstream)] == ["reasoning", "message", None]
    assert len({request.headers["authorization"] for request in upstream.requests}) == 1


async def test_a_named_message_goes_to_the_account_whose_upstream_keeps_it(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    def keep(_: object) -> Reply:
        number = len(upstream.requests)
        said = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": []}
        return Reply.json(200, {"id": f"resp_{number}", "status": "completed", "output": [said]})

    upstream.respond = keep
    keys = upstream_settings(upstream.url, "sk-one", "sk-two", state="upstream")
    async with running_gateway(sqlite_url, [keys]) as gateway, gateway.client() as client:
        await client.responses.create(model="demo", input="Remember this.")
        named: Any = {"type": "item_reference", "id": "msg_1"}
        for _ in range(3):
            await client.responses.create(model="demo", input=[named])
            assert sent_to(upstream) == [named]
    assert len({request.headers["authorization"] for request in upstream.requests}) == 1


async def test_a_call_can_be_named_and_then_answered(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(model="demo", input="The weather in Utrecht?", tools=[WEATHER])
        [call] = first.output
        assert call.type == "function_call"
        answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees"}
        named: Any = [{"type": "item_reference", "id": call.id}, answer]
        second = await client.responses.create(model="demo", input=[{"role": "user", "content": "Hm?"}, *named])
        assert second.output_text == "The tool get_weather answered: 22 degrees"
        third = await client.responses.create(model="demo", input=named, previous_response_id=first.id)
        assert third.output_text == second.output_text
    # The chain holds the call already: it goes up once.
    assert [item["type"] for item in sent_to(upstream)] == ["message", "function_call", "function_call_output"]


async def test_an_unknown_item_and_a_foreign_one_are_refused_alike(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async def name(client: AsyncOpenAI, item_id: str) -> Response:
        return await client.responses.create(model="demo", input=[{"type": "item_reference", "id": item_id}])

    async with gateway.client() as client, gateway.client(gateway.other_key) as other:
        own = await client.responses.create(model="demo", input="Hi.")
        known = own.output[0].id
        assert known is not None
        unknown = known[:-1] + ("0" if known[-1] != "0" else "1")
        with pytest.raises(NotFoundError) as of_nobody:
            await name(other, unknown)
        with pytest.raises(NotFoundError) as of_another:
            await name(other, known)
        await client.responses.delete(own.id)
        with pytest.raises(NotFoundError) as deleted:
            await name(client, known)
    for error, item_id in ((of_nobody, unknown), (of_another, known), (deleted, known)):
        message = f"Item with id '{item_id}' not found."
        assert refused(error.value) == (404, message, "invalid_request_error", None, None)
    assert of_another.value.response.content == of_nobody.value.response.content.replace(
        unknown.encode(), known.encode()
    )
    assert len(upstream.requests) == 1


async def test_the_list_of_what_went_in_is_paged_by_the_sdk(gateway: LiveGateway) -> None:
    texts = [f"Line {number}." for number in range(45)]
    given: Any = [{"role": "user", "content": text} for text in texts]
    async with gateway.client() as client:
        response = await client.responses.create(model="demo", input=given)
        newest_first = await listed(client, response.id)
        oldest_first = await listed(client, response.id, order="asc", limit=7)
        page = (await client.responses.input_items.list(response.id)).model_dump()
    assert [item["content"][0]["text"] for item in oldest_first] == texts
    ids = [item["id"] for item in oldest_first]
    assert all(item_id.startswith("msg_") for item_id in ids)
    assert len(set(ids)) == 45
    assert newest_first == oldest_first[::-1]
    assert (len(page["data"]), page["has_more"]) == (20, True)
    assert (page["first_id"], page["last_id"]) == (ids[-1], ids[-20])


async def test_a_page_lies_between_its_cursors(sqlite_gateway: LiveGateway) -> None:
    given: Any = [{"role": "user", "content": f"Line {number}.", "id": f"msg_{number}"} for number in range(5)]
    async with sqlite_gateway.client() as client:
        response = await client.responses.create(model="demo", input=given)

        async def numbers(**query: Any) -> tuple[str, bool | None]:
            query = {"extra_query": query}
            page = await client.responses.input_items.list(response.id, **query)
            return "".join(str(item.id).removeprefix("msg_") for item in page.data), page.has_more

        assert await numbers() == ("43210", False)
        assert await numbers(after="msg_3") == ("210", False)
        assert await numbers(before="msg_1") == ("432", False)
        assert await numbers(after="msg_4", before="msg_0") == ("321", False)
        assert await numbers(after="msg_1", order="asc", limit=2) == ("23", True)
        assert await numbers(before="msg_3", order="asc", limit=3) == ("012", False)
        for query, param in (
            ({"limit": 0}, "limit"),
            ({"limit": 101}, "limit"),
            ({"order": "up"}, "order"),
            ({"after": "msg_9"}, "after"),
            ({"before": "msg_9"}, "before"),
        ):
            with pytest.raises(BadRequestError) as error:
                await numbers(**query)
            assert error.value.param == param


async def test_the_list_of_a_continued_response_holds_the_history_too(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        first = await client.responses.create(model="demo", input="One.")
        second = await client.responses.create(model="demo", input="Two.", previous_response_id=first.id)
        items = await listed(client, second.id, order="asc")
    assert [item["content"][0]["text"] for item in items] == ["One.", first.output_text, "Two."]
    assert items[1]["id"] == first.output[0].id
    assert all(item["id"] for item in items)
