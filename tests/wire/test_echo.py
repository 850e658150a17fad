"""Response objects that the gateway begins itself: valid by OpenAI's types whatever was asked, and without secrets."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from app.wire.responses import response_object
from app.wire.websocket_messages import warm_up
from tests.fakes.openai_document import document
from tests.fakes.openai_types import EVENT, check, check_response
from tests.fakes.streams import events

SECRET = "sk-client-own-1234"
_FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True}
TOOLS: tuple[Mapping[str, Any], ...] = (
    _FUNCTION,
    {"type": "function", "name": "bare"},
    {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "regex", "definition": "a+"}},
    {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    {"type": "tool_search"},
    {"type": "programmatic_tool_calling"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 3},
    {"type": "web_search", "search_context_size": "low", "user_location": {"type": "approximate", "city": "Utrecht"}},
    {"type": "web_search_preview"},
    {"type": "computer"},
    {"type": "computer_use_preview", "display_height": 1, "display_width": 1, "environment": "browser"},
    {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}},
    {"type": "image_generation", "size": "auto"},
    {"type": "mcp", "server_label": "s", "server_url": "https://mcp.example", "require_approval": "never"},
)
ASKED: tuple[Mapping[str, Any], ...] = (
    {},
    {"metadata": None, "tools": None, "tool_choice": None, "parallel_tool_calls": None, "text": None, "user": None},
    *({"tools": [tool]} for tool in TOOLS),
    {"tools": [*TOOLS]},
    *({"tool_choice": choice} for choice in ("none", "auto", "required")),
    {"tool_choice": {"type": "function", "name": "f"}},
    {"tool_choice": {"type": "custom", "name": "c"}},
    {"tool_choice": {"type": "mcp", "server_label": "s", "name": None}},
    {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
    *({"tool_choice": {"type": kind}} for kind in ("file_search", "shell", "apply_patch", "programmatic_tool_calling")),
    {"text": {"format": {"type": "text"}, "verbosity": "low"}},
    {"text": {"format": {"type": "json_object"}}},
    {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}},
    {"text": {"format": None, "verbosity": None}},
    {"reasoning": {"effort": "low", "summary": "auto"}},
    {"reasoning": {"effort": None}},
    {"metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
    {"prompt_cache_options": {"ttl": "30m"}, "prompt_cache_retention": "24h"},
    {"temperature": 0.5, "top_p": 0.1, "top_logprobs": 3, "presence_penalty": 1, "frequency_penalty": -1},
    {"max_output_tokens": 16, "max_tool_calls": 1, "truncation": "auto", "service_tier": "flex"},
    {"instructions": "Be brief.", "parallel_tool_calls": False},
    {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Utrecht"}}, "model": None},
    {"include": ["reasoning.encrypted_content"], "moderation": {"model": "omni"}, "stream_options": {}},
    {"context_management": [{"type": "compaction", "compact_threshold": 1000}], "background_options": {}},
)


def _as_asked(body: bytes) -> bytes:
    facts = response_object.read(body)
    assert facts is not None
    return facts.as_asked(store=False, previous_response_id="resp_0", background=True)


@pytest.mark.parametrize("asked", ASKED)
def test_a_response_that_was_only_asked_for_is_openais_to_the_field(asked: Mapping[str, Any]) -> None:
    body = _as_asked(response_object.placeholder_response({"model": "m", **asked}))
    made = orjson.loads(body)
    check_response(made)
    for name in ("instructions", "metadata", "temperature", "top_p", "reasoning", "service_tier", "user"):
        if asked.get(name) is not None:
            assert made[name] == asked[name]
    for status in ("queued", "in_progress", "cancelled"):
        check_response(response_object.ended(body, status, []))
    check_response(response_object.ended(body, "failed", [], {"code": "server_error", "message": "No."}))


@pytest.mark.parametrize("asked", ASKED)
def test_each_event_of_a_warm_up_is_openais_to_the_field(asked: Mapping[str, Any]) -> None:
    told = events(b"".join(warm_up(_as_asked(response_object.warm_up_response({"model": "m", **asked})))))
    for event in told:
        check(event, EVENT)
        check_response(event["response"])
    assert [event["response"]["status"] for event in told] == ["in_progress", "in_progress", "completed"]
    assert told[-1]["response"]["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(
    "announced",
    [
        {},
        {"object": None, "created_at": None, "model": None, "tools": None, "tool_choice": None, "metadata": None},
        {"status": "queued", "output": [{"type": "message"}], "completed_at": 5, "parallel_tool_calls": None},
    ],
)
def test_what_upstream_announced_by_halves_is_whole_when_it_ends(announced: Mapping[str, Any]) -> None:
    raw = response_object.ended(
        orjson.dumps({"id": "resp_1", **announced}), "failed", [], {"code": "server_error", "message": ""}
    )
    check(raw)
    assert orjson.loads(raw)["id"] == "resp_1"
    assert orjson.loads(raw)["output"] == []


_AUTHENTICATING: tuple[Mapping[str, Any], ...] = (
    {"type": "mcp", "server_label": "s", "server_url": "https://mcp.example", "authorization": SECRET},
    {"type": "mcp", "server_label": "s", "server_url": "https://mcp.example", "headers": {"x-api-key": SECRET}},
    {"type": "mcp", "server_label": "s", "server_url": f"https://mcp.example/{SECRET}/sse"},
    {"type": "mcp", "server_label": "s", "server_url": f"https://mcp.example?key={SECRET}"},
    {"type": "mcp", "server_label": "s", "server_url": f"https://u:{SECRET}@mcp.example:8443"},
    {"type": "mcp", "server_label": "s", "connector_id": "connector_gmail", "authorization": SECRET},
    *(
        {"type": kind, name: {"type": container, "network_policy": policy}}
        for kind, name, container in (
            ("code_interpreter", "container", "auto"),
            ("shell", "environment", "container_auto"),
        )
        for policy in (
            {
                "type": "allowlist",
                "allowed_domains": ["a.example"],
                "domain_secrets": [{"domain": "a.example", "name": "n", "value": SECRET}],
            },
        )
    ),
)


@pytest.mark.parametrize("tool", _AUTHENTICATING)
def test_what_a_tool_authenticates_with_never_comes_back(tool: Mapping[str, Any]) -> None:
    for made in (
        response_object.placeholder_response({"model": "m", "tools": [tool]}),
        response_object.warm_up_response({"model": "m", "tools": [tool]}),
    ):
        assert SECRET.encode() not in made
        check_response(_as_asked(made))
        shown = orjson.loads(made)["tools"][0]
        assert shown["type"] == tool["type"]
        assert shown.get("server_url", "https://mcp.example").startswith("https://mcp.example")


@pytest.mark.document
def test_openais_document_calls_them_valid_for_every_request_that_it_allows() -> None:
    samples = document().samples(document().schema("CreateResponse"))
    asked = [*ASKED, *samples]
    faults = [fault for each in asked for fault in _faults(orjson.loads(_as_asked(_begun(each))))]
    assert sorted(set(faults)) == []


def _begun(asked: Mapping[str, Any]) -> bytes:
    return response_object.placeholder_response({"model": "m", **asked})


def _faults(made: dict[str, Any]) -> list[str]:
    # The document leaves it out until there is some; on the wire it is null.
    assert made.pop("usage") is None
    return document().faults("Response", made)
