"""Every parameter of the reference page goes up as it was sent; every response field comes back, in each form."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from app.ids import new_id
from app.wire.json_body import elements
from app.wire.responses.stream_events import payload
from app.wire.sse import FrameSplitter
from tests.fakes.gateway import LiveGateway
from tests.fakes.json_bytes import join_object, members
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.live.seed_samples import PARAMETERS, RESPONSE_FIELDS

pytestmark = pytest.mark.live

ENCRYPTED = b'"reasoning.encrypted_content"'

# Written as JSON, and not as one would: what is sent on has to be the same bytes.
FORWARDED: dict[str, tuple[bytes, ...]] = {
    "model": (b'"gpt-5.4"', b'"meta\\/llama \\u00e9"'),
    "input": (b'"hi \\u0041\\/\\ud83d\\ude00"', b'[ {"role": "user", "content": "hi"} ]'),
    "instructions": (b'"Be \\u0062rief."', b'""'),
    "context_management": (b'[{"type":"compaction","compact_threshold":1000}]',),
    "include": (
        (
            b'["web_search_call.action.sources","code_interpreter_call.outputs",'
            b'"computer_call_output.output.image_url","file_search_call.results","message.input_image.image_url",'
            b'"message.output_text.logprobs","reasoning.encrypted_content"]'
        ),
        b"[]",
    ),
    "max_output_tokens": (b"16", b"128000"),
    "max_tool_calls": (b"1",),
    "metadata": (b'{"k": "\\u00e9", "order": "12"}', b"{}"),
    "parallel_tool_calls": (b"true", b"false"),
    "prompt": (b'{"id":"pmpt_1","version":"2","variables":{"city":{"type":"input_text","text":"Utrecht"}}}',),
    "prompt_cache_key": (b'"tenant-1"',),
    "prompt_cache_retention": (b'"in-memory"', b'"24h"'),
    "reasoning": (b'{"effort":"high","summary":"auto","future":1.50}', b'{"effort":"low"}'),
    "safety_identifier": (b'"' + b"u" * 64 + b'"',),
    "service_tier": (b'"auto"', b'"default"', b'"flex"', b'"priority"'),
    "stream": (b"true", b"false"),
    "stream_options": (b'{"include_obfuscation":false}',),
    "temperature": (b"0", b"1.50", b"2", b"1e0"),
    "text": (
        b'{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"multipleOf":0.10}},"verbosity":"low"}',
        b'{"format":{"type":"json_object"}}',
    ),
    "tool_choice": (b'"auto"', b'"none"', b'"required"', b'{"type":"function","name":"get_weather"}'),
    "tools": (
        b'[{"type":"web_search_preview"},{"type":"file_search","vector_store_ids":["vs_1"]}]',
        b'[{"type":"code_interpreter","container":{"type":"auto"}}]',
        b'[{"type":"function","name":"f","parameters":{"type":"object","properties":{}, "x":1.0},"strict":false}]',
        b'[{"type":"mcp","server_label":"s","server_url":"https://mcp.example","require_approval":"never"}]',
    ),
    "top_logprobs": (b"0", b"20"),
    "top_p": (b"0.10", b"1"),
    "truncation": (b'"auto"', b'"disabled"'),
    "user": (b'"user-1"',),
}
# These are the gateway's own: what becomes of them is said below.
OWN = {"background", "conversation", "previous_response_id", "store"}

UNKNOWN: dict[str, bytes] = {
    "x_future": b'{"f": 1.50, "big": 123456789012345678901234567890, "t": "\\u00e9\\/\\ud83d\\ude00", "a": [1E5 , 0]}',
    "presence_penalty": b"0.50",
    "tools": b'[{"type":"teleport","range":1.50,"serial":18446744073709551616,"name":"\\u0041"}]',
    "tool_choice": b'{"type":"teleport","force":9.0}',
    "input": (
        b'[{"type":"hologram","depth":1.50,"serial":18446744073709551616,"text":"\\u0041"},'
        b'{"role":"user","content":[{"type":"input_smell","strength":2.0},{"type":"input_text","text":"\\u0068i"}]}]'
    ),
}

# What is asked for, and said again in the response. No value is a default.
ASKED: dict[str, Any] = {
    "instructions": "Be brief.",
    "max_output_tokens": 64,
    "max_tool_calls": 3,
    "metadata": {"order": "12"},
    "parallel_tool_calls": False,
    "prompt_cache_key": "tenant-1",
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "low", "summary": "auto"},
    "safety_identifier": "somebody",
    "service_tier": "priority",
    "temperature": 0.5,
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "tool_choice": "none",
    "tools": [{"type": "web_search_preview"}],
    "top_logprobs": 2,
    "top_p": 0.25,
    "truncation": "auto",
    "user": "user-1",
    "frequency_penalty": 0.5,
    "presence_penalty": 0.25,
}

PARTS: list[dict[str, Any]] = [
    {"type": "input_text", "text": "What is this?"},
    {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"},
    {"type": "input_image", "file_id": "file-1", "detail": "auto"},
    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
    {"type": "input_file", "file_url": "https://files.example/b.pdf"},
    {"type": "input_file", "file_id": "file-2"},
]


@pytest.fixture
async def http(sqlite_gateway: LiveGateway) -> AsyncIterator[httpx2.AsyncClient]:
    headers = sqlite_gateway.headers()
    async with httpx2.AsyncClient(base_url=sqlite_gateway.base_url, headers=headers, timeout=60) as http:
        yield http


def scripted(request: Recorded) -> Reply | None:
    """A minimal answer to anything, so that no rule of the demo model stands in the way; streams are left to it."""
    if request.json.get("stream"):
        return None
    response = {"id": new_id("resp"), "object": "response", "status": "completed", "model": "m", "output": []}
    return Reply.json(200, response)


def test_the_table_has_every_parameter_of_the_page() -> None:
    assert FORWARDED.keys() | OWN == PARAMETERS
    assert not FORWARDED.keys() & OWN


async def test_every_parameter_reaches_upstream_as_the_bytes_that_were_sent(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    upstream.respond = scripted
    for name, value in ((name, value) for name, values in FORWARDED.items() for value in values):
        body = {"model": b'"demo"', "input": b'"hi"', name: value}
        answer = await http.post("/responses", content=join_object(body))
        assert answer.status_code == 200, (name, answer.text)
        received = members(upstream.requests[-1].body)
        assert received.pop("store") == b"false"
        if ENCRYPTED not in value:
            # The one addition: without it the reasoning of a stored turn would be lost to the next.
            assert received.pop("include") == b"[" + ENCRYPTED + b"]"
            body.pop("include", None)
        if name == "context_management":
            # This upstream is not said to compact, so that the gateway does.
            assert body.pop(name)
        assert received == body


@pytest.mark.parametrize("name", UNKNOWN)
async def test_what_the_gateway_does_not_know_arrives_byte_for_byte(
    name: str, http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    upstream.respond = scripted
    body = {"model": b'"demo"', "input": b'"hi"', name: UNKNOWN[name]}
    answer = await http.post("/responses", content=join_object(body))
    assert answer.status_code == 200, answer.text
    assert members((await upstream.request()).body) == {"include": b"[" + ENCRYPTED + b"]"} | body | {"store": b"false"}


async def test_unknown_items_are_replayed_byte_for_byte(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.respond = scripted
    first = {"model": b'"demo"', "input": UNKNOWN["input"]}
    response_id = (await http.post("/responses", content=join_object(first))).json()["id"]
    second = {"model": b'"demo"', "input": b'"\\u0041nd"', "previous_response_id": orjson.dumps(response_id)}
    assert (await http.post("/responses", content=join_object(second))).status_code == 200
    replayed = elements(members((await upstream.request(1)).body)["input"])
    assert replayed[:2] == elements(UNKNOWN["input"])
    assert members(replayed[2])["content"] == b'"\\u0041nd"'


async def test_included_data_the_client_asked_for_stays_when_reasoning_is_added(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    upstream.respond = scripted
    for given, expected in (
        (b'["code_interpreter_call.outputs"]', [b'"code_interpreter_call.outputs"', ENCRYPTED]),
        (b"[" + ENCRYPTED + b"]", [ENCRYPTED]),
    ):
        body = {"model": b'"demo"', "input": b'"hi"', "reasoning": b'{"effort":"low"}', "include": given}
        assert (await http.post("/responses", content=join_object(body))).status_code == 200
        assert elements(members(upstream.requests[-1].body)["include"]) == expected


@pytest.mark.parametrize("store", [None, True, False])
async def test_upstream_is_never_asked_to_store(
    store: bool | None, http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    nulls = {"background": False, "conversation": None, "previous_response_id": None}
    answer = await http.post("/responses", json={"model": "demo", "input": "hi", "store": store, **nulls})
    received = members((await upstream.request()).body)
    assert ("include" in received) is (store is not False)
    received.pop("include", None)
    assert received == {"model": b'"demo"', "input": b'"hi"', "store": b"false"}
    said = answer.json()
    assert said["store"] is (store is not False)
    assert (await http.get(f"/responses/{said['id']}")).status_code == (404 if store is False else 200)


async def test_every_field_of_the_page_is_in_a_whole_answer_and_in_what_is_kept(http: httpx2.AsyncClient) -> None:
    parent = (await http.post("/responses", json={"model": "demo", "input": "hi"})).json()["id"]
    asked = {"model": "demo", "input": "And now?", "previous_response_id": parent, **ASKED}
    said = await http.post("/responses", json=asked)
    assert_says(said.json(), {"store": True, "background": False, "previous_response_id": parent})
    kept = await http.get(f"/responses/{said.json()['id']}")
    assert kept.content == said.content


async def test_every_field_of_the_page_is_in_the_end_of_a_stream_and_in_what_is_kept(http: httpx2.AsyncClient) -> None:
    parent = (await http.post("/responses", json={"model": "demo", "input": "hi"})).json()["id"]
    asked = {"model": "demo", "input": "And now?", "previous_response_id": parent, "stream": True, **ASKED}
    streamed = await http.post("/responses", json=asked)
    last = payload(FrameSplitter(1_000_000).feed(streamed.content)[-1])
    assert last["type"] == "response.completed"
    # A stream is upstream's, untouched: it speaks of the stateless call.
    assert_says(last["response"], {"store": False, "background": False, "previous_response_id": None})
    kept = (await http.get(f"/responses/{last['response']['id']}")).json()
    own = {"store": True, "background": False, "previous_response_id": parent}
    assert_says(kept, own)
    assert kept == last["response"] | own


async def test_images_and_files_reach_upstream_and_stay_in_the_chain(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    asked = {"model": "demo", "input": [{"role": "user", "content": PARTS}]}
    first = await http.post("/responses", json=asked)
    assert first.status_code == 200, first.text
    asked = {"model": "demo", "input": "And now?", "previous_response_id": first.json()["id"]}
    assert (await http.post("/responses", json=asked)).status_code == 200
    assert len(upstream.requests) == 2
    for request in upstream.requests:
        sent = request.json["input"]
        assert isinstance(sent, list)
        assert sent[0]["content"] == PARTS
    listed = (await http.get(f"/responses/{first.json()['id']}/input_items")).json()
    assert listed["data"][0]["content"] == PARTS


def assert_says(response: dict[str, Any], own: dict[str, Any]) -> None:
    """All fields are there, those that were asked for say so, and the others say what a finished response says."""
    assert response.keys() >= RESPONSE_FIELDS
    assert {name: response[name] for name in ASKED} == ASKED
    assert {name: response[name] for name in own} == own
    assert response["id"].startswith("resp_")
    assert (response["object"], response["status"], response["model"]) == ("response", "completed", "demo")
    assert (response["error"], response["incomplete_details"]) == (None, None)
    assert response["created_at"] <= response["completed_at"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["output_text"] == response["output"][1]["content"][0]["text"] != ""
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
