"""Calls shaped as the Codex command line sends them: nothing stored, the history replayed by the client, streamed."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from app.wire.responses.stream_events import payload
from app.wire.sse import FrameSplitter
from tests.fakes.gateway import LiveGateway
from tests.fakes.json_bytes import members
from tests.fakes.socket_client import SocketClient
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

HEADERS = {
    "accept": "text/event-stream",
    "openai-beta": "responses=experimental",
    "originator": "codex_cli_rs",
    "session-id": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "thread-id": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "user-agent": "codex_cli_rs/0.169.0 (Debian 13.0.0; x86_64) xterm",
    "x-client-request-id": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "x-codex-beta-features": "remote_compaction_v2",
    "x-codex-turn-metadata": '{"turn_id":"1"}',
}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "exec_command",
        "description": "Runs a command in a PTY.",
        "strict": False,
        "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]},
    },
    {
        "type": "custom",
        "name": "apply_patch",
        "description": "Use the `apply_patch` tool to edit files.",
        "format": {
            "type": "grammar",
            "syntax": "lark",
            "definition": 'start: begin_patch hunk+ end_patch\nbegin_patch: "*** Begin Patch" LF\n%import common.LF\n',
        },
    },
    {
        "type": "namespace",
        "name": "mcp__calendar__",
        "description": "Tools of a server.",
        "tools": [
            {
                "type": "function",
                "name": "create_event",
                "description": "Puts an appointment in the calendar.",
                "strict": False,
                "defer_loading": True,
                "parameters": {"type": "object", "properties": {"title": {"type": "string"}}},
            }
        ],
    },
    {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": {"type": "object"}},
    {"type": "web_search", "external_web_access": False},
]


def message(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def turn(history: list[dict[str, Any]], **changes: Any) -> bytes:
    """The body of one turn, as compact as it is sent."""
    body = {
        "model": "demo",
        "instructions": "You are a coding agent.",
        "input": history,
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto", "context": "all_turns"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": HEADERS["session-id"],
        "text": {"verbosity": "low"},
        "client_metadata": {"x-codex-installation-id": "b2ab", "nested": {"w3c": [1, 2.5, None]}},
    }
    return orjson.dumps(body | changes)


@pytest.fixture
async def http(sqlite_gateway: LiveGateway) -> AsyncIterator[httpx2.AsyncClient]:
    headers = sqlite_gateway.headers() | HEADERS
    async with httpx2.AsyncClient(base_url=sqlite_gateway.url, headers=headers, timeout=60) as http:
        yield http


async def stream(http: httpx2.AsyncClient, body: bytes) -> list[dict[str, Any]]:
    """The events that answer this body."""
    answer = await http.post("/v1/responses", content=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [payload(frame) for frame in FrameSplitter(1_000_000).feed(answer.content)]


def done(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The finished items; the stream has to have come to its end."""
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    return [event["item"] for event in events if event["type"] == "response.output_item.done"]


async def test_the_body_arrives_unchanged_and_the_answer_streams(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    body = turn([message("developer", "Sandboxed."), message("user", "Say hello.")])
    items = done(await stream(http, body))
    assert [item["type"] for item in items] == ["reasoning", "web_search_call", "message"]
    assert items[0]["encrypted_content"]
    # It says `store: false` itself, so there is nothing for the gateway to add.
    assert (await upstream.request()).body == body


async def test_what_is_sent_to_be_stored_differs_in_the_gateways_own_members_only(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    body = turn([message("user", "Say hello.")], store=True, previous_response_id=None, include=[])
    done(await stream(http, body))
    expected = members(body) | {"store": b"false", "include": b'["reasoning.encrypted_content"]'}
    del expected["previous_response_id"]
    assert members((await upstream.request()).body) == expected


async def test_of_its_headers_upstream_sees_those_that_are_meant_for_it(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    done(await stream(http, turn([message("user", "Say hello.")])))
    received = (await upstream.request()).headers
    assert received["openai-beta"] == HEADERS["openai-beta"]
    assert received["x-client-request-id"] == HEADERS["x-client-request-id"]
    assert received["authorization"] == "Bearer sk-upstream-one"
    assert received["user-agent"].startswith("antiphon/")
    own = {"originator", "session-id", "thread-id", "x-codex-beta-features", "x-codex-turn-metadata"}
    assert not own & received.keys()


@pytest.mark.parametrize(
    ("text", "kind", "named"),
    [
        ("Edit the file with apply_patch.", "custom_tool_call", {"name": "apply_patch"}),
        (
            "Create an appointment in the calendar.",
            "function_call",
            {"name": "create_event", "namespace": "mcp__calendar__"},
        ),
    ],
)
async def test_a_history_that_the_client_replays_itself_arrives_unchanged(
    text: str, kind: str, named: dict[str, str], http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    history = [message("developer", "Sandboxed."), message("user", text)]
    events = await stream(http, turn(history))
    thought, call = done(events)
    assert (thought["type"], call["type"]) == ("reasoning", kind)
    assert {name: call[name] for name in named} == named
    assert any(event["type"].endswith(".delta") and event["item_id"] == call["id"] for event in events)

    # Ids stay behind, since nothing was stored under them; `content` is null, and not left out.
    history += [
        {"type": "reasoning", "summary": thought["summary"], "content": None}
        | {"encrypted_content": thought["encrypted_content"]},
        {name: value for name, value in call.items() if name != "id"},
        {"type": f"{kind}_output", "call_id": call["call_id"], "output": "Exit code: 0\nOutput:\nDone.\n"},
    ]
    body = turn(history)
    answer = done(await stream(http, body))[-1]
    assert answer["content"][0]["text"] == f"The tool {named['name']} answered: Exit code: 0\nOutput:\nDone.\n"
    assert (await upstream.request(1)).body == body

    history += [{name: value for name, value in answer.items() if name != "id"}, message("user", "Thanks.")]
    body = turn(history)
    assert done(await stream(http, body))[-1]["type"] == "message"
    assert (await upstream.request(2)).body == body


async def test_nothing_of_it_is_kept(http: httpx2.AsyncClient) -> None:
    events = await stream(http, turn([message("user", "Say hello.")]))
    missing = await http.get(f"/v1/responses/{events[-1]['response']['id']}")
    assert missing.status_code == 404


async def test_over_a_websocket_it_warms_up_and_then_sends_what_is_new(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    headers = sqlite_gateway.headers() | HEADERS | {"openai-beta": "responses_websockets=2026-02-06"}
    async with SocketClient.to(sqlite_gateway, additional_headers=headers) as client:
        body = orjson.loads(turn([message("developer", "Sandboxed.")]))
        warm = await client.respond(**body, generate=False)
        assert not upstream.requests
        body["input"] = [message("user", "Edit the file with apply_patch.")]
        events = await client.turn_events(**body, previous_response_id=warm["id"])
        thought, call = done(events)
        assert (thought["type"], call["type"]) == ("reasoning", "custom_tool_call")
        output = {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "Done."}
        body["input"] = [output]
        answer = done(await client.turn_events(**body, previous_response_id=events[-1]["response"]["id"]))[-1]
    assert answer["content"][0]["text"] == "The tool apply_patch answered: Done."
    sent = upstream.requests[1].json
    assert isinstance(sent["input"], list)
    kinds = [item["type"] for item in sent["input"]]
    assert kinds == ["message", "message", "reasoning", "custom_tool_call", "custom_tool_call_output"]
    assert sent["client_metadata"] == body["client_metadata"]
    # That was said of this connection, and not of the call upstream.
    assert "openai-beta" not in upstream.requests[1].headers
