"""The body of a relayed call for an account: the client's own, but for what is the account's or the caller's."""

from typing import Any

import orjson
import pytest

from app.relay.metering.meter import new_entry
from app.relay.passthrough.passthrough_call import PassthroughCall
from app.settings.upstreams import UpstreamSettings
from app.upstream.account import accounts_of
from app.upstream.chat.profile import profile_of
from app.wire.requests.passthrough_request import RelayedSurface, parse_passthrough_request
from tests.builders import make_caller

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def call_of(surface: RelayedSurface = "chat", **body: Any) -> PassthroughCall:
    request = parse_passthrough_request(surface, orjson.dumps({"model": "m", **body}), 32)
    caller = make_caller()
    entry = new_entry(request, caller, surface)
    return PassthroughCall(model="m", entry=entry, caller=caller, request=request, profile_of=profile_of)


def sent(call: PassthroughCall, host: str = "one.example", **settings: Any) -> dict[str, Any]:
    (account,) = accounts_of(UpstreamSettings(name="u", base_url=f"https://{host}/v1", **settings))
    body: dict[str, Any] = orjson.loads(call.render(account))
    return body


@pytest.mark.parametrize("state", ["gateway", "upstream"])
def test_nothing_is_left_in_an_account_unless_it_keeps_all_state(state: Any) -> None:
    kept: dict[str, Any] = {"store": True, "metadata": {"a": "b"}}
    body = sent(call_of(messages=MESSAGES, **kept), state=state)
    assert body == {"model": "m", "messages": MESSAGES, **(kept if state == "upstream" else {})}


def test_a_value_keeps_its_bytes() -> None:
    raw = b'{"model":"m", "messages": [ {"role":"user","content":"\\u00e9 1.0"} ], "temperature": 1.00}'
    request = parse_passthrough_request("chat", raw, 32)
    (account,) = accounts_of(UpstreamSettings(name="u", base_url="https://one.example/v1"))
    call = call_of(messages=MESSAGES)
    call.request = request
    rendered = call.render(account)
    assert b'[ {"role":"user","content":"\\u00e9 1.0"} ]' in rendered
    assert b"1.00" in rendered


@pytest.mark.parametrize(
    ("host", "member"),
    [("api.openai.com", "max_completion_tokens"), ("api.mistral.ai", "max_tokens"), ("one.example", "max_tokens")],
)
def test_the_callers_cap_has_the_name_that_the_server_knows(host: str, member: str) -> None:
    call = call_of(messages=MESSAGES, n=2)
    call.request.limit_output(100)
    assert sent(call, host) == {"model": "m", "messages": MESSAGES, "n": 2, member: 50}


def test_a_completion_has_one_name_for_its_limit() -> None:
    call = call_of("completions", prompt=["a", "b"])
    call.request.limit_output(100)
    assert sent(call, "api.openai.com")["max_tokens"] == 50


@pytest.mark.parametrize(
    ("host", "body", "added"),
    [
        ("one.example", {"stream": True}, {"include_usage": True}),
        ("one.example", {"stream": True, "stream_options": None}, {"include_usage": True}),
        (
            "one.example",
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
        ),
        ("one.example", {"stream": True, "stream_options": {"include_usage": True}}, None),
        # A server that refuses the member.
        ("api.mistral.ai", {"stream": True}, None),
        ("one.example", {"stream": False}, None),
    ],
)
def test_a_stream_is_asked_for_its_usage_where_that_is_taken(
    host: str, body: dict[str, Any], added: dict[str, Any] | None
) -> None:
    call = call_of(messages=MESSAGES, **body)
    rendered = sent(call, host)
    assert rendered.get("stream_options") == (added or body.get("stream_options"))
    assert call.adds_usage is (added is not None)


def test_the_calls_of_one_cache_stay_together() -> None:
    of = PassthroughCall.cache_key_of
    assert of({"prompt_cache_key": "k", "user": "u"}) == "k"
    assert of({"prompt_cache_key": 5, "user": "u"}) == "u"
    assert of({"user": ""}) is None
