"""Any JSON at all in a request's body: the answer is never a fault of the gateway's, and it stays in OpenAI's shape."""

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.wire.requests.field_rules import OPENAI_RULES
from app.wire.requests.input_items import ITEMS
from tests.fakes.databases import sqlite_first
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import RawClient
from tests.fakes.replies import Reply
from tests.fakes.streams import item, response, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

_NAMES = [*OPENAI_RULES]
_ITEM_TYPES = ["", "unheard_of", *ITEMS]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["\x00", "\u2028", "é" * 600])
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda some: st.lists(some, max_size=4) | st.dictionaries(texts, some, max_size=4), max_leaves=12
)
# Not only noise, most of which fails at the first look: also what is nearly right.
parts = st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text", "input_image"]) | values}) | values
items = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(_ITEM_TYPES) | values,
        "role": st.sampled_from(["user", "assistant", "system", "developer"]) | values,
        "content": texts | st.lists(parts, max_size=3) | values,
        "id": texts | values,
        "call_id": texts | values,
        "name": texts | values,
        "arguments": texts | values,
        "output": texts | values,
        "summary": st.lists(parts, max_size=2) | values,
        "status": st.sampled_from(["completed", "in_progress"]) | values,
    },
)
messages = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": texts})
inputs = texts | st.lists(messages, min_size=1, max_size=3) | st.lists(messages | items, max_size=3)
members = {
    "stream": st.booleans(),
    "store": st.booleans(),
    "instructions": texts,
    "metadata": st.dictionaries(texts, texts, max_size=3),
    "include": st.lists(st.sampled_from(["reasoning.encrypted_content", "web_search_call.results"])),
    "reasoning": st.fixed_dictionaries({}, optional={"effort": st.sampled_from(["low", "high"])}),
    "temperature": st.floats(0, 2),
}
nearly_right = st.fixed_dictionaries({"model": st.just("demo"), "input": inputs}, optional=members)
one_off = st.builds(
    lambda body, name, value: {**body, name: value}, nearly_right, st.sampled_from(_NAMES) | texts, values
)
noise = values | st.dictionaries(st.sampled_from(_NAMES), values, max_size=6)
bodies = nearly_right | one_off | noise


async def serve(gateway: LiveGateway, upstream: FakeUpstream, body: Any) -> int:
    """The status of this call, after a look at its answer."""

    def respond(request: Recorded) -> Reply:
        response_id = f"resp_{len(upstream.requests)}"
        if request.json.get("stream") is True:
            return Reply.sse(story(response_id))
        return Reply.json(200, response(response_id, "completed", [item("Hello.")]))

    upstream.respond = respond
    async with RawClient.to(gateway.url) as client:
        answer = await client.ask("POST", "/v1/responses", gateway.headers(), orjson.dumps(body))
    assert answer.status < 500, answer
    assert answer.headers["x-request-id"].startswith("req_")
    if answer.status == 200:
        assert b"completed" in answer.body, answer
        assert b"response.failed" not in answer.body, answer
    else:
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}, answer
        assert answer.json["error"]["type"] == "invalid_request_error"
    return answer.status


@settings(
    max_examples=3 * settings().max_examples,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies)
@sqlite_first
async def test_no_json_body_is_more_than_the_gateway_can_take(
    gateway: LiveGateway, upstream: FakeUpstream, body: Any
) -> None:
    await serve(gateway, upstream, body)
