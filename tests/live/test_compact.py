"""POST /v1/responses/compact: by upstream where it has it, by the gateway where not; what comes of it goes anywhere."""

import asyncio
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, InternalServerError
from structlog.testing import capture_logs

from tests.builders import says, user
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.streams import response
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SUMMARY = "They greeted. Next: say goodbye."
USAGE = {"input_tokens": 90, "output_tokens": 9, "total_tokens": 99}
FOREIGN: Any = {"id": "cmp_up", "type": "compaction", "encrypted_content": "gAAAAABforeign"}


def summarised(text: str = SUMMARY) -> Reply:
    return Reply.json(200, {**response("resp_up", "completed", [says(text)]), "usage": USAGE})


def asks(text: str) -> Any:
    return user(text)


def refused(error: APIStatusError) -> tuple[int, str | None, str | None]:
    return error.status_code, error.code, error.param


async def compacted(client: AsyncOpenAI, **fields: Any) -> dict[str, Any]:
    made = await client.responses.compact(model="demo", **fields)
    assert made.object == "response.compaction"
    read: dict[str, Any] = made.model_dump(exclude_none=True, warnings=False)
    return read


def sent_to(upstream: FakeUpstream) -> list[dict[str, Any]]:
    items = upstream.requests[-1].json["input"]
    assert isinstance(items, list)
    return items


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"] if isinstance(item["content"], str) else item["content"][0]["text"] for item in items]


async def test_a_chain_is_compacted_by_the_model_itself_where_upstream_cannot(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        first = await client.responses.create(model="demo", input="Hello.")
        upstream.enqueue(summarised())
        made = await compacted(client, previous_response_id=first.id, input="Bye.", instructions="Be brief.")
        asked = upstream.requests[-1]
        assert asked.path == "/v1/responses"
        assert asked.json["store"] is False
        assert asked.json["instructions"] == "Be brief."
        assert "previous_response_id" not in asked.json
        assert [item["role"] for item in sent_to(upstream)] == ["user", "assistant", "user", "user"]

        assert made["id"].startswith("resp_")
        assert made["usage"] == USAGE
        *said, item = made["output"]
        assert [(each["role"], each["type"]) for each in said] == [("user", "message")] * 2
        assert texts(said) == ["Hello.", "Bye."]
        assert item.keys() == {"id", "type", "encrypted_content"}
        assert (item["id"][:4], item["type"]) == ("cmp_", "compaction")
        assert "goodbye" not in item["encrypted_content"]

        # A new chain begins with it, whole, and goes on without it.
        second = await client.responses.create(model="demo", input=[*made["output"], asks("Go on.")])
        for _ in range(2):
            told = sent_to(upstream)
            assert [item["type"] for item in told] == ["message"] * len(told)
            assert texts(told)[:2] == ["Hello.", "Bye."]
            assert SUMMARY in texts(told)[2]
            second = await client.responses.create(model="demo", input="More?", previous_response_id=second.id)
        # Nobody reads the summary from the API.
        page = await client.responses.input_items.list(second.id, order="asc", limit=100)
        listed = [each.to_dict() for each in page.data]
        assert [each["encrypted_content"] for each in listed if each["type"] == "compaction"] == [
            item["encrypted_content"]
        ]
        assert SUMMARY not in str(listed)


async def test_a_compaction_is_no_response_that_could_be_continued(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        made = await compacted(client, input="Hello.")
        with pytest.raises(BadRequestError) as error:
            await client.responses.create(model="demo", input="More.", previous_response_id=made["id"])
    assert refused(error.value) == (400, "previous_response_not_found", "previous_response_id")


async def test_a_compaction_of_ours_goes_to_any_upstream(sqlite_url: str, upstream: FakeUpstream) -> None:
    async with FakeUpstream() as elsewhere:
        elsewhere.respond = lambda _: summarised("Fine.")
        upstreams = [
            upstream_settings(upstream.url, "sk-one", models=["demo"]),
            upstream_settings(elsewhere.url, "sk-two", name="elsewhere", models=["other"]),
        ]
        async with running_gateway(sqlite_url, upstreams) as gateway, gateway.client() as client:
            upstream.enqueue(summarised())
            made = await compacted(client, input=[asks("Hello."), says("Hi.", "msg_9")])
            # What keeps nothing is spliced into the body as it came; a chain from the items that are kept.
            await client.responses.create(model="other", input=[*made["output"], asks("And?")], store=False)
            assert SUMMARY in texts(sent_to(elsewhere))[1]
            kept = await client.responses.create(model="demo", input=[*made["output"], asks("And?")])
            await client.responses.create(model="other", input="So?", previous_response_id=kept.id)
            assert SUMMARY in texts(sent_to(elsewhere))[1]


async def test_an_upstream_that_keeps_chains_is_told_the_summary_too(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: summarised()
    keeping = upstream_settings(upstream.url, "sk-one", state="upstream")
    async with running_gateway(sqlite_url, [keeping]) as gateway, gateway.client() as client:
        made = await compacted(client, input="Hello.")
        await client.responses.create(model="demo", input=[*made["output"], asks("And?")])
    assert SUMMARY in texts(sent_to(upstream))[1]
    assert "store" not in upstream.requests[-1].json


async def test_earlier_compactions_are_compacted_with_the_rest(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.respond = lambda _: summarised()
    async with sqlite_gateway.client() as client:
        once = await compacted(client, input="Hello.")
        twice = await compacted(client, input=[*once["output"], asks("Again.")])
    assert SUMMARY in texts(sent_to(upstream))[1]
    assert texts(twice["output"][:-1]) == ["Hello.", "Again."]
    assert twice["output"][-1]["type"] == "compaction"


async def test_upstreams_own_endpoint_is_called_with_the_chain(sqlite_url: str, upstream: FakeUpstream) -> None:
    body = {**response("resp_up", "completed", [FOREIGN]), "object": "response.compaction", "usage": USAGE}
    having = upstream_settings(upstream.url, "sk-one", endpoints=["compact"], strip=["service_tier"])
    async with running_gateway(sqlite_url, [having]) as gateway, gateway.client() as client:
        first = await client.responses.create(model="demo", input="Hello.")
        upstream.enqueue(Reply.json(200, body, {"x-request-id": "req_up"}))
        made = await client.responses.with_raw_response.compact(
            model="demo", previous_response_id=first.id, input="Bye.", service_tier="fast", prompt_cache_key="k"
        )
        assert made.http_response.json() == body
        assert made.headers["x-upstream-request-id"] == "req_up"
        asked = upstream.requests[-1]
        assert asked.path == "/v1/responses/compact"
        assert asked.json.keys() == {"model", "input", "prompt_cache_key"}
        assert [item["role"] for item in sent_to(upstream)] == ["user", "assistant", "user"]
        # What upstream has encrypted goes back to it as it is.
        upstream.enqueue(summarised())
        await client.responses.create(model="demo", input=[FOREIGN, asks("Go on.")])
        assert sent_to(upstream)[0]["encrypted_content"] == FOREIGN["encrypted_content"]


async def test_where_an_upstream_fails_that_has_it_the_next_one_is_asked_in_its_own_way(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.error(500), summarised())
    upstreams = [
        upstream_settings(upstream.url, "sk-one", endpoints=["compact"]),
        upstream_settings(upstream.url, "sk-two", name="other"),
    ]
    async with running_gateway(sqlite_url, upstreams) as gateway, gateway.client() as client:
        made = await compacted(client, input="Hello.")
    assert [request.path for request in upstream.requests] == ["/v1/responses/compact", "/v1/responses"]
    assert [item["type"] for item in made["output"]] == ["message", "compaction"]


@pytest.mark.parametrize(("start", "end"), [(20, 24), (-24, -20)], ids=str)
async def test_a_compaction_that_was_changed_is_refused(start: int, end: int, sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as client:
        [_, item] = (await compacted(client, input="Hello."))["output"]
        sealed = item["encrypted_content"]
        changed: Any = {**item, "encrypted_content": f"{sealed[:start]}AAAA{sealed[end:]}"}
        with pytest.raises(BadRequestError) as error:
            await client.responses.create(model="demo", input=[asks("Hi."), changed])
    assert refused(error.value) == (400, "invalid_encrypted_content", "input[1].encrypted_content")
    assert f"The encrypted content for item {item['id']} could not be verified." in error.value.message


async def test_another_projects_compaction_is_refused(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as client, gateway.client(gateway.other_key) as other:
        made = await compacted(client, input="Hello.")
        asked = len(upstream.requests)
        for call in (other.responses.create, other.responses.compact):
            with pytest.raises(BadRequestError) as error:
                await call(model="demo", input=made["output"])
            assert refused(error.value) == (400, "invalid_encrypted_content", "input[1].encrypted_content")
    assert len(upstream.requests) == asked


@pytest.mark.parametrize(
    "reply",
    [
        Reply.json(200, response("resp_up", "completed", [])),
        Reply.json(200, response("resp_up", "incomplete", [says("Half a")])),
        Reply.json(200, response("resp_up", "completed", [says("  ")])),
        Reply.json(200, {"no": "response"}),
    ],
    ids=["silent", "incomplete", "blank", "not a response"],
)
async def test_without_a_summary_there_is_no_compaction(
    reply: Reply, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(reply)
    async with sqlite_gateway.client(max_retries=1) as client:
        with pytest.raises(InternalServerError) as error:
            await compacted(client, input="Hello.")
    assert refused(error.value) == (502, "compaction_failed", None)
    assert len(upstream.requests) == 1, "the SDK does not pay for another"


async def test_what_upstream_says_is_no_compaction_is_not_passed_on(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, {"no": "compaction"}))
    having = upstream_settings(upstream.url, "sk-one", endpoints=["compact"])
    async with running_gateway(sqlite_url, [having]) as gateway, gateway.client() as client:
        with pytest.raises(InternalServerError) as error:
            await compacted(client, input="Hello.")
    assert refused(error.value) == (502, "upstream_invalid_answer", None)


async def test_upstreams_refusal_is_the_answer(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(400, "context_length_exceeded"))
    async with sqlite_gateway.client() as client:
        with pytest.raises(BadRequestError) as error:
            await compacted(client, input="Hello.")
    assert refused(error.value) == (400, "context_length_exceeded", None)


async def test_a_client_that_leaves_ends_the_call(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.stall())
    async with sqlite_gateway.client() as client:
        call = asyncio.create_task(compacted(client, input="Hello."))
        asked = await upstream.request()
        call.cancel()
        async with asyncio.timeout(10):
            await asked.closed.wait()


async def test_no_content_is_logged(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.enqueue(summarised("the-canary-summary"))
    with capture_logs() as lines:
        async with gateway_with() as gateway, gateway.client() as client:
            made = await compacted(client, input="the-canary-prompt")
    assert [line["route"] for line in lines if line["event"] == "request"] == ["/v1/responses/compact"]
    assert "the-canary" not in str(lines)
    assert made["output"][-1]["encrypted_content"] not in str(lines)


async def test_the_demo_model_compacts(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway, gateway.client() as client:
        made = await compacted(client, input="Hello.")
        went_on = await client.responses.create(model="demo", input=[*made["output"], asks("Go on.")])
    assert went_on.status == "completed"
    assert [item["type"] for item in made["output"]] == ["message", "compaction"]
