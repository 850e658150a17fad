"""Compaction in the course of a create call: upstream's where it has it, else the gateway's."""

from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from tests.builders import answers, calls, says, user
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_client import calling
from tests.fakes.replies import Reply
from tests.fakes.streams import events, response, story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SUMMARY = "They counted to a thousand."
LONG = "one two three " * 400
EDIT: Any = [{"type": "compaction", "compact_threshold": 1000}]
USAGE = {"input_tokens": 90, "output_tokens": 9, "total_tokens": 99}
TOLD = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}


def said(text: str, usage: dict[str, int], response_id: str = "resp_up") -> Reply:
    return Reply.json(200, {**response(response_id, "completed", [says(text)]), "usage": usage})


def sent(upstream: FakeUpstream, number: int = -1) -> list[dict[str, Any]]:
    items = upstream.requests[number].json["input"]
    assert isinstance(items, list)
    return items


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"] if isinstance(item["content"], str) else item["content"][0]["text"] for item in items]


async def long_chain(client: AsyncOpenAI) -> Response:
    opening: Any = [{"role": "developer", "content": "Speak Dutch."}, user(LONG)]
    return await client.responses.create(model="demo", input=opening)


async def test_a_context_that_is_too_long_is_made_short_first(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as client:
        first = await long_chain(client)
        upstream.enqueue(said(SUMMARY, USAGE, "resp_summary"), said("Hi.", TOLD, "resp_second"))
        second = await client.responses.create(
            model="demo", input="Go on.", previous_response_id=first.id, context_management=EDIT
        )
        asked, answered = upstream.requests[-2:]
        assert [item["role"] for item in sent(upstream, -2)] == ["developer", "user", "assistant", "user"]
        assert asked.json.keys() == {"model", "input", "store"}
        assert answered.json.keys() == {"model", "input", "store", "include"}
        # The user's word is longer than half the threshold: only the summary has it.
        assert [item["role"] for item in sent(upstream)] == ["developer", "user", "user"]
        assert texts(sent(upstream))[::2] == ["Speak Dutch.", "Go on."]
        assert SUMMARY in texts(sent(upstream))[1]

        compaction, message = second.output
        assert compaction.type == "compaction"
        assert compaction.id.startswith("cmp_")
        assert message.type == "message"
        assert second.usage is not None
        assert (second.usage.input_tokens, second.usage.total_tokens) == (100, 110)
        stored = await client.responses.retrieve(second.id)
        assert stored.output == second.output

        # From here on it stands for all that was before it.
        await client.responses.create(
            model="demo", input="More.", previous_response_id=second.id, context_management=EDIT
        )
        assert [item["role"] for item in sent(upstream)] == ["developer", "user", "user", "assistant", "user"]
        assert SUMMARY in texts(sent(upstream))[1]
        assert texts(sent(upstream))[2:] == ["Go on.", "Hi.", "More."]


async def test_a_streams_events_are_not_touched_and_its_turn_is_continued_from_the_summary(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        first = await long_chain(client)
        played = story("resp_second", "Hi.")
        upstream.enqueue(said(SUMMARY, USAGE, "resp_summary"), Reply.sse(played))
        asked = {"input": "Go on.", "previous_response_id": first.id, "context_management": EDIT}
        async with calling(gateway.url, gateway.key, **asked) as call:
            relayed = await call.rest()
        assert relayed == b"".join(played)
        assert upstream.requests[-2].json.get("stream") is None
        assert upstream.requests[-1].json["stream"] is True
        assert SUMMARY in texts(sent(upstream))[1]
        kept = await client.responses.retrieve("resp_second")
        assert [item.type for item in kept.output] == ["compaction", "message"]
        await client.responses.create(model="demo", input="More.", previous_response_id="resp_second")
    assert [item["role"] for item in sent(upstream)] == ["developer", "user", "user", "assistant", "user"]


async def test_the_log_of_a_run_tells_of_its_compaction_where_it_stands_in_the_end(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client, BackgroundClient.to(gateway.url, gateway.key) as runs:
        first = await long_chain(client)
        asked = {"input": "Go on.", "previous_response_id": first.id, "context_management": EDIT}
        for reply in (Reply.sse(story("resp_up", "Hi.")), said("Hi.", TOLD), Reply.sse(story("resp_up", "Hi.")[:-1])):
            upstream.enqueue(said(SUMMARY, USAGE, "resp_summary"), reply)
            async with runs.listening(None, **asked) as chunks:
                heard = events(b"".join([chunk async for chunk in chunks]).removesuffix(b"data: [DONE]\n\n"))
            assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
            done = {event["output_index"]: event["item"] for event in heard if "item" in event}
            assert [done[place] for place in sorted(done)] == heard[-1]["response"]["output"]
            assert [item["type"] for item in heard[-1]["response"]["output"]] == ["compaction", "message"]
            assert {event["output_index"] for event in heard if "delta" in event} <= {1}


async def test_a_stream_that_fails_ends_with_the_items_that_it_told(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        first = await long_chain(client)
        upstream.enqueue(said(SUMMARY, USAGE, "resp_summary"), Reply.sse(story("resp_second", "Hi.")[:-1]))
        asked = {"input": "Go on.", "previous_response_id": first.id, "context_management": EDIT}
        async with calling(gateway.url, gateway.key, **asked) as call:
            heard = events(await call.rest())
        assert heard[-1]["type"] == "response.failed"
        done = [event["item"] for event in heard if event["type"] == "response.output_item.done"]
        assert heard[-1]["response"]["output"] == done
        assert [item["type"] for item in done] == ["message"]
        kept = await client.responses.retrieve("resp_second")
        assert [item.type for item in kept.output] == ["compaction", "message"]


async def test_a_context_that_is_short_is_sent_as_it_is(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    given: Any = [user("Hello."), says("Hi.", "msg_9"), user("Go on.")]
    edits: list[Any] = [EDIT, [{"type": "compaction"}]]
    async with sqlite_gateway.client() as client:
        for edit in edits:
            made = await client.responses.create(model="demo", input=given, context_management=edit)
            assert [item.type for item in made.output] == ["message"]
            assert sent(upstream) == given
            assert "context_management" not in upstream.requests[-1].json
        # One that says no more than the question cannot be made shorter.
        await client.responses.create(model="demo", input=LONG, context_management=EDIT)
    assert len(upstream.requests) == 3


async def test_what_the_model_waits_for_is_not_summarised(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    given: Any = [
        user("Count."),
        calls("call_1", "fc_1"),
        {**answers("call_1"), "output": LONG},
        calls("call_2", "fc_2"),
        answers("call_2"),
    ]
    upstream.enqueue(said(SUMMARY, USAGE), said("Done.", TOLD))
    async with sqlite_gateway.client() as client:
        made = await client.responses.create(model="demo", input=given, store=False, context_management=EDIT)
        assert [item.type for item in made.output] == ["compaction", "message"]
        assert [item["type"] for item in sent(upstream, 0)] == [
            *("message", "function_call", "function_call_output", "message"),
        ]
        context = sent(upstream)
        assert [item["type"] for item in context] == ["message", "message", "function_call", "function_call_output"]
        assert texts(context[:1]) == ["Count."]
        assert context[3] == answers("call_2")
        # A client that keeps the history itself goes on from the item, as it would with OpenAI's.
        again: Any = [*[item.model_dump(exclude_none=True) for item in made.output], user("And?")]
        await client.responses.create(model="demo", input=again, store=False)
        assert sent(upstream)[:4] == context


async def test_an_upstream_that_can_does_it_itself(sqlite_url: str, upstream: FakeUpstream) -> None:
    having = upstream_settings(upstream.url, "sk-one", endpoints=["compact"])
    async with running_gateway(sqlite_url, [having]) as gateway, gateway.client() as client:
        first = await long_chain(client)
        await client.responses.create(
            model="demo", input="Go on.", previous_response_id=first.id, context_management=EDIT
        )
    assert len(upstream.requests) == 2
    assert upstream.requests[-1].json["context_management"] == EDIT


@pytest.mark.parametrize(
    "failing",
    [
        Reply.json(200, response("resp_up", "incomplete", [says("Half")])),
        Reply.json(200, response("resp_up", "completed", [])),
        Reply.json(400, {"error": {"message": "Too long.", "type": "invalid_request_error", "code": None}}),
    ],
    ids=["half", "none", "refused"],
)
async def test_a_context_without_a_summary_goes_as_it_came(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, failing: Reply
) -> None:
    async with sqlite_gateway.client() as client:
        first = await long_chain(client)
        upstream.enqueue(failing, said("Hi.", TOLD, "resp_second"))
        second = await client.responses.create(
            model="demo", input="Go on.", previous_response_id=first.id, context_management=EDIT
        )
    assert [item.type for item in second.output] == ["message"]
    assert len(upstream.requests) == 3
    assert [item["role"] for item in sent(upstream)] == ["developer", "user", "assistant", "user"]


async def test_a_context_that_a_summary_would_make_no_shorter_goes_as_it_came(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with sqlite_gateway.client() as client:
        # A long question after a short history is not worth one.
        short = await client.responses.create(model="demo", input="Hello.")
        await client.responses.create(model="demo", input=LONG, previous_response_id=short.id, context_management=EDIT)
        assert len(upstream.requests) == 2
        assert texts(sent(upstream))[0::2] == ["Hello.", LONG]
        # And one that is longer than what it stands for is of no use.
        first = await long_chain(client)
        upstream.enqueue(said(LONG * 2, USAGE), said("Hi.", TOLD, "resp_second"))
        made = await client.responses.create(
            model="demo", input="Go on.", previous_response_id=first.id, context_management=EDIT
        )
    assert [item.type for item in made.output] == ["message"]
    assert [item["role"] for item in sent(upstream)] == ["developer", "user", "assistant", "user"]


@pytest.mark.slow
async def test_a_context_that_no_item_can_hold_goes_as_it_came_and_is_not_summarised(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    image: Any = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + "A" * 16_000_000}
    async with sqlite_gateway.client() as client:
        first = await long_chain(client)
        made = await client.responses.create(
            model="demo",
            input=[{"type": "message", "role": "user", "content": [image]}],
            previous_response_id=first.id,
            context_management=EDIT,
        )
    assert [item.type for item in made.output] == ["message"]
    assert len(upstream.requests) == 2
    assert len(sent(upstream)) == 4
